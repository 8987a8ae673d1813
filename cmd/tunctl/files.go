package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tund/config"
	"tund/internal/control"
)

// readBounded reads a file, or standard input for "-".
func (a *app) readBounded(path string, limit int64) ([]byte, error) {
	if path == "-" {
		return readAll(a.env.stdin, "standard input", limit)
	}
	return readFile(path, limit)
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, path, limit)
}

func readAll(in io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", name, limit)
	}
	return data, nil
}

// writeSecret makes a file that only its owner may read, which is the service in its own directory.
// One that is there already is kept, unless force is set.
func writeSecret(path string, data []byte, force bool) error {
	if force {
		return replaceFile(path, data, 0o600)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return alreadyThere(path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, giveToService(f, path), f.Sync(), f.Close())
}

func alreadyThere(path string) error {
	return &failure{exitFailure, path + " exists already (--force replaces it)"}
}

// replaceFile puts data in the place of a file in one step, so that whoever reads it sees the old
// text or the new one. A symbolic link goes on to be one: what it names is replaced. Owner and mode
// of an existing file are kept; a new one has mode.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	if info, statErr := os.Stat(path); statErr == nil {
		mode = info.Mode().Perm()
		err = keepOwner(f, info)
	} else {
		err = giveToService(f, path)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// output writes what a verb made: to the file at path with mode 0600, or to standard output for "".
func (a *app) output(path string, data []byte, force bool) error {
	if path != "" {
		return writeSecret(path, data, force)
	}
	a.warnExposed()
	_, err := a.env.stdout.Write(data)
	return err
}

// warnExposed warns when a secret is about to go to a file that others can read.
func (a *app) warnExposed() {
	if a.env.exposed {
		fmt.Fprintln(a.env.stderr, "tunctl: warning: others may read this file (chmod 600 it, or begin with: umask 077)")
	}
}

// configFlag adds the flag by which verbs on a file find it.
func (a *app) configFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.config, "config", "c", "", "configuration file (default: that of the instance)")
}

// configPath returns the configuration that a verb is about: the one of the flag, that of the
// running instance which -i names or which is the only one, or the only one in the directory of
// configurations.
func (a *app) configPath(ctx context.Context) (string, error) {
	if a.config != "" {
		return a.config, nil
	}
	if a.instance != "" {
		if path, err := a.runningConfig(ctx, a.instance); err != nil || path != "" {
			return path, err
		}
		return filepath.Join(a.env.configDir, a.instance+".toml"), nil
	}
	running, err := control.Instances(a.env.runDir)
	if err != nil {
		return "", err
	}
	if len(running) == 1 {
		if path, err := a.runningConfig(ctx, running[0]); err != nil || path != "" {
			return path, err
		}
	}
	// Only a bad pattern is an error.
	files, _ := filepath.Glob(filepath.Join(a.env.configDir, "*.toml"))
	switch {
	case len(files) == 1 && len(running) < 2:
		return files[0], nil
	case len(files) == 0:
		return "", a.noConfiguration()
	}
	names := make([]string, len(files))
	for i, path := range files {
		names[i] = strings.TrimSuffix(filepath.Base(path), ".toml")
	}
	slices.Sort(names)
	return "", usage("several configurations in %s: choose one with -i (%s), or name its file", a.env.configDir, some(names))
}

// noConfiguration says why the directory of configurations has none to choose: it is empty, or, for
// an ordinary user, as good as empty.
func (a *app) noConfiguration() error {
	if _, err := os.ReadDir(a.env.configDir); errors.Is(err, fs.ErrPermission) {
		return &failure{exitPermission, fmt.Sprintf("look for a configuration: %v (try sudo)", err)}
	}
	return usage("no configuration in %s: name its file", a.env.configDir)
}

// runningConfig asks a running instance for its file; "" when it does not run.
func (a *app) runningConfig(ctx context.Context, instance string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, control.AnswerTimeout)
	defer cancel()
	s, err := control.NewClient(a.env.runDir, instance).Status(ctx)
	var dial *control.DialError
	switch {
	case errors.As(err, &dial) && !dial.Permission():
		return "", nil
	case err != nil:
		return "", err
	case len(s.Instances) == 0 || s.Instances[0].Config == "":
		return "", &failure{exitFailure, fmt.Sprintf("instance %q has no configuration file: it is configured with wg(8)", instance)}
	}
	return s.Instances[0].Config, nil
}

// loadConfig reads a configuration for a verb.
func loadConfig(path string) (*config.Config, error) {
	c, err := config.LoadByHand(path)
	if err == nil {
		return c, nil
	}
	return nil, configFailure(err)
}

// configFailure is how a verb ends for a configuration that cannot be read, or has faults.
func configFailure(err error) error {
	var faults config.Errors
	switch {
	case errors.As(err, &faults):
		return &failure{exitConfig, "the configuration has errors:\n" + faults.Error()}
	case errors.Is(err, fs.ErrPermission):
		return &failure{exitPermission, err.Error()}
	}
	return &failure{exitConfig, err.Error()}
}

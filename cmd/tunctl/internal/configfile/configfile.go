// Package configfile finds the configuration that a verb of tunctl is about, reads it, and puts
// another text in its place, which a running instance then reads.
//
// What a configuration may say is for package config, and how a text is changed for
// internal/tomledit.
//
// Functions may be called from several goroutines. That nobody else changes a file between Read and
// Replace is verified, and not prevented.
package configfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tund/cmd/tunctl/internal/exit"
	"tund/config"
	"tund/internal/control"
	"tund/internal/screen"
)

// Finder finds configurations.
type Finder struct {
	RunDir    string // of the control sockets
	ConfigDir string // of configurations, one for each instance
}

// Path returns the configuration that a verb is about: file, that of the running instance with that
// name or of the only one, or the only one in the directory of configurations. Without a file or
// an instance on the command line, these are "".
func (f Finder) Path(ctx context.Context, file, instance string) (string, error) {
	if file != "" {
		return file, nil
	}
	if instance != "" {
		if path, err := f.running(ctx, instance); err != nil || path != "" {
			return path, err
		}
		return filepath.Join(f.ConfigDir, instance+".toml"), nil
	}
	running, err := control.Instances(f.RunDir)
	if err != nil {
		return "", err
	}
	if len(running) == 1 {
		if path, err := f.running(ctx, running[0]); err != nil || path != "" {
			return path, err
		}
	}
	// Only a bad pattern is an error.
	files, _ := filepath.Glob(filepath.Join(f.ConfigDir, "*.toml"))
	switch {
	case len(files) == 1 && len(running) < 2:
		return files[0], nil
	case len(files) == 0:
		return "", f.noConfiguration()
	}
	names := make([]string, len(files))
	for i, path := range files {
		names[i] = strings.TrimSuffix(filepath.Base(path), ".toml")
	}
	slices.Sort(names)
	return "", exit.Usage("several configurations in %s: choose one with -i (%s), or name its file", f.ConfigDir, screen.Some(names))
}

// noConfiguration says why the directory of configurations has none to choose: it is empty, or, for
// an ordinary user, as good as empty.
func (f Finder) noConfiguration() error {
	if _, err := os.ReadDir(f.ConfigDir); errors.Is(err, fs.ErrPermission) {
		return exit.Errorf(exit.Permission, "look for a configuration: %v (try sudo)", err)
	}
	return exit.Usage("no configuration in %s: name its file", f.ConfigDir)
}

// running asks a running instance for its file; "" when it does not run.
func (f Finder) running(ctx context.Context, instance string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, control.AnswerTimeout)
	defer cancel()
	s, err := control.NewClient(f.RunDir, instance).Status(ctx)
	var dial *control.DialError
	switch {
	case errors.As(err, &dial) && !dial.Permission():
		return "", nil
	case err != nil:
		return "", err
	case len(s.Instances) == 0 || s.Instances[0].Config == "":
		return "", exit.Errorf(exit.Failed, "instance %q has no configuration file: it is configured with wg(8)", instance)
	}
	return s.Instances[0].Config, nil
}

// Load reads a configuration for a verb.
func Load(path string) (*config.Config, error) {
	c, err := config.LoadByHand(path)
	if err == nil {
		return c, nil
	}
	return nil, Failure(err)
}

// Failure is how a verb ends for a configuration that cannot be read, or has faults.
func Failure(err error) error {
	var faults config.Errors
	switch {
	case errors.As(err, &faults):
		return exit.Errorf(exit.Config, "the configuration has errors:\n%v", faults)
	case errors.Is(err, fs.ErrPermission):
		return exit.Errorf(exit.Permission, "%v", err)
	}
	return exit.Errorf(exit.Config, "%v", err)
}

package configfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/config"
	"tund/internal/control"
)

// maxConfig bounds what is read of a configuration, as config does.
const maxConfig = 64 << 20

// Read returns the text of a configuration and what it says.
func Read(path string) ([]byte, *config.Config, error) {
	data, err := secretfile.Read(path, maxConfig)
	if err != nil {
		return nil, nil, err
	}
	c, err := config.Parse(path, data)
	if err != nil {
		return nil, nil, Failure(err)
	}
	return data, c, nil
}

// Refused says that a change would leave a configuration with faults.
func Refused(path string, err error) error {
	var faults config.Errors
	if errors.As(err, &faults) {
		return exit.Errorf(exit.Config, "%s was not changed, because the result would have errors:\n%v", path, faults)
	}
	return err
}

// Replace puts text in the place of a configuration, old, after checking it, and has a
// running instance read it again. When that refuses, the old text is put back. It returns what
// became of the change, for the user.
func (f Finder) Replace(ctx context.Context, path string, old, text []byte) (string, error) {
	if _, err := config.Parse(path, text); err != nil {
		return "", Refused(path, err)
	}
	if now, err := secretfile.Read(path, maxConfig); err != nil || !bytes.Equal(now, old) {
		return "", errors.Join(exit.Errorf(exit.Failed, "%s was changed by another program in the meantime: try again", path), err)
	}
	if err := secretfile.Replace(path, text, 0o600); err != nil {
		return "", err
	}
	c, err := f.runs(ctx, path)
	if err != nil {
		return "", err
	}
	if c == nil {
		return "in force from the next start of the instance", nil
	}
	ctx, cancel := context.WithTimeout(ctx, control.ReloadTimeout)
	defer cancel()
	err = c.Reload(ctx, 0)
	var refused *control.Error
	if errors.As(err, &refused) && refused.Code == control.CodeConfig || errors.As(err, &refused) && refused.Code == control.CodePermission {
		return "", errors.Join(RefusedReload(c.Instance(), err), secretfile.Replace(path, old, 0o600))
	}
	if err != nil {
		return "", fmt.Errorf("%s is changed, but: %w", path, RefusedReload(c.Instance(), err))
	}
	return "in force now, and after every reload and restart", nil
}

// runs returns the running instance whose configuration is at path, nil if there is none.
func (f Finder) runs(ctx context.Context, path string) (*control.Client, error) {
	names, err := control.Instances(f.RunDir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		running, err := f.running(ctx, name)
		if err != nil || running == "" {
			continue // not one with this file; those that do not answer are for status to tell of
		}
		if sameFile(running, path) {
			return control.NewClient(f.RunDir, name), nil
		}
	}
	return nil, nil
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}

// RefusedReload puts the faults of a file on lines of their own, where editors and eyes find
// file:line:col.
func RefusedReload(instance string, err error) error {
	if e, ok := err.(*control.Error); ok && e.Code == control.CodeConfig {
		return exit.Errorf(exit.Config, "%s: reload refused, the old configuration stays in force:\n%s",
			instance, strings.TrimSpace(e.Message))
	}
	return fmt.Errorf("%s: reload: %w", instance, err)
}

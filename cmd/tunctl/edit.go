package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"tund/config"
	"tund/internal/control"
)

// maxConfig bounds what is read of a configuration, as config does.
const maxConfig = 64 << 20

// readConfig returns the text of a configuration and what it says.
func readConfig(path string) ([]byte, *config.Config, error) {
	data, err := readFile(path, maxConfig)
	if err != nil {
		return nil, nil, err
	}
	c, err := config.Parse(path, data)
	if err != nil {
		return nil, nil, configFailure(err)
	}
	return data, c, nil
}

// refusedEdit says that a change would leave a configuration with faults.
func refusedEdit(path string, err error) error {
	var faults config.Errors
	if errors.As(err, &faults) {
		return &failure{exitConfig, fmt.Sprintf("%s was not changed, because the result would have errors:\n%v", path, faults)}
	}
	return err
}

// replaceConfig puts text in the place of a configuration, old, after checking it, and has a
// running instance read it again. When that refuses, the old text is put back. It returns what
// became of the change, for the user.
func (a *app) replaceConfig(ctx context.Context, path string, old, text []byte) (string, error) {
	if _, err := config.Parse(path, text); err != nil {
		return "", refusedEdit(path, err)
	}
	if now, err := readFile(path, maxConfig); err != nil || !bytes.Equal(now, old) {
		return "", errors.Join(&failure{exitFailure, path + " was changed by another program in the meantime: try again"}, err)
	}
	if err := replaceFile(path, text, 0o600); err != nil {
		return "", err
	}
	c, err := a.runs(ctx, path)
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
		return "", errors.Join(refusedReload(c.Instance(), err), replaceFile(path, old, 0o600))
	}
	if err != nil {
		return "", fmt.Errorf("%s is changed, but: %w", path, refusedReload(c.Instance(), err))
	}
	return "in force now, and after every reload and restart", nil
}

// runs returns the running instance whose configuration is at path, nil if there is none.
func (a *app) runs(ctx context.Context, path string) (*control.Client, error) {
	names, err := control.Instances(a.env.runDir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		running, err := a.runningConfig(ctx, name)
		if err != nil || running == "" {
			continue // not one with this file; those that do not answer are for status to tell of
		}
		if sameFile(running, path) {
			return control.NewClient(a.env.runDir, name), nil
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

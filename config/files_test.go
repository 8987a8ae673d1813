package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/crypto/keys"
)

func TestLoad_readsRealFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "office.toml")
	write(t, path, tunSection, 0o600)
	write(t, filepath.Join(dir, "office.key"), privA+"\n", 0o600)
	c, err := Load(path)
	if err != nil || len(c.Warnings) != 0 || c.Instance != "office" {
		t.Fatalf("Load = %+v, %v", c, err)
	}

	if _, err = Load(filepath.Join(dir, "nothing.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of a missing file: %v", err)
	}
	if errs := (Errors)(nil); errors.As(err, &errs) {
		t.Errorf("a missing file is an Errors: %v", errs)
	}
	if _, err = Load(dir); err == nil {
		t.Error("Load of a directory succeeded")
	}
}

func TestLoad_warnsOfFilesOpenToOthers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		file    fs.FileMode
		key     fs.FileMode // 0: the secret is in the configuration
		warning string
	}{
		{0o600, 0o600, ""},
		{0o640, 0o600, ""},
		{0o644, 0o600, "DIR/office.toml:1:1: warning: this file is open to everybody (mode 0644): chmod 640"},
		{0o660, 0o600, "DIR/office.toml:1:1: warning: this file can be changed by its group (mode 0660): chmod 640"},
		{0o600, 0o640, "DIR/office.toml:2:20: warning: tunnel: private_key_file: DIR/office.key is open to others (mode 0640): chmod 600"},
		{0o600, 0o604, "DIR/office.toml:2:20: warning: tunnel: private_key_file: DIR/office.key is open to others (mode 0604): chmod 600"},
		{0o600, 0, ""},
		{0o640, 0, "DIR/office.toml:1:1: warning: this file holds a secret and is open to others (mode 0640): chmod 600"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "office.toml")
		if test.key == 0 {
			write(t, path, "[tunnel]\nprivate_key = \""+privA+"\"\n[tun]\n", test.file)
		} else {
			write(t, path, tunSection, test.file)
			write(t, filepath.Join(dir, "office.key"), privA, test.key)
		}
		c, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(c.Warnings)
		if want := "[" + strings.ReplaceAll(test.warning, "DIR", dir) + "]"; got != want {
			t.Errorf("modes %o and %o: got %s, want %s", test.file, test.key, got, want)
		}
	}
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestLoad_takesTheKeyFromASystemdCredential(t *testing.T) {
	t.Parallel()
	h := testHost(map[string]string{
		"office.toml": "[tunnel]\ncredential = \"private-key\"\n[tun]\n",
		"/run/credentials/tund@office.service/private-key": privA,
	})
	if _, err := load("office.toml", h); err == nil || !strings.Contains(err.Error(), "$CREDENTIALS_DIRECTORY is not set") {
		t.Errorf("without a directory: %v", err)
	}
	h.getenv = func(name string) string {
		return map[string]string{"CREDENTIALS_DIRECTORY": "/run/credentials/tund@office.service"}[name]
	}
	c, err := load("office.toml", h)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := keys.ParsePrivate(privA); c.Tunnel.PrivateKey != want {
		t.Error("the key is not that of the credential")
	}
}

// What may not be read is another matter for the service than for somebody who runs a program.
func TestLoad_saysWhoMayRead(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"office.toml", "office.key"} {
		read := func(path string, _ int64) ([]byte, fs.FileInfo, error) {
			if path == file {
				return nil, nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
			}
			return []byte(tunSection), nil, nil
		}
		for advice, wanted := range map[string]string{serviceMayRead: "chown tund", rootMayRead: "try sudo"} {
			_, err := load("office.toml", host{readFile: read, getenv: func(string) string { return "" }, mayRead: advice})
			if err == nil || !strings.Contains(err.Error(), wanted) || strings.Contains(err.Error(), "sudo") && strings.Contains(err.Error(), "chown") {
				t.Errorf("%s: %v, want %q in it", file, err, wanted)
			}
		}
	}
}

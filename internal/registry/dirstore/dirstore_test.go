package dirstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tund/internal/registry/record"
)

func TestStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(dir, "acme")
	if _, err := s.List(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there is no error: %v", err)
	}
	for key, value := range map[string]string{"crl": "1", "grant/a": "2", "site/a/rec": "3"} {
		if err := s.Put(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	huge := bytes.Repeat([]byte("x"), record.MaxRevocations+100)
	for name, value := range map[string][]byte{"grant/.new-x": nil, "notes.txt": nil, "site/b/rec.json": huge} {
		path := filepath.Join(dir, "acme", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "acme", "grant", "link.json")); err != nil {
		t.Fatal(err)
	}
	all, err := s.List()
	if err != nil || len(all) != 4 || string(all["site/a/rec"]) != "3" || len(all["site/b/rec"]) >= len(huge) {
		t.Errorf("%d documents, %v", len(all), err)
	}
	if got, err := s.Get("grant/a"); err != nil || string(got) != "2" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.Get("grant/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of nothing: %v", err)
	}
}

// A site that fills its part of a shared directory, or makes it unreadable, keeps nobody from the
// rest.
func TestStore_aHostileSite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(dir, "acme")
	for _, key := range []string{"crl", "grant/a", "site/a/rec", "site/z/rec", "site/a/x/y/rec", ".git/x"} {
		if err := s.Put(key, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		if err := os.WriteFile(filepath.Join(dir, "acme", "site", "a", fmt.Sprintf("%03d.json", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "acme", "site", "c", "rec.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	all, err := s.Listing()
	if err != nil || len(all.Values) != 3 || all.Values["site/z/rec"] == nil || all.Surplus < 64 || all.Whose != "site/a/" {
		t.Errorf("%d documents, %d passed over of %q, %v", len(all.Values), all.Surplus, all.Whose, err)
	}
	if os.Geteuid() == 0 {
		return // who can read everything
	}
	for _, name := range []string{"z", "z/rec.json"} {
		path := filepath.Join(dir, "acme", "site", name)
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		all, err = s.Listing()
		_ = os.Chmod(path, 0o700)
		if err != nil || all.Values["crl"] == nil {
			t.Errorf("with %s unreadable: %v", name, err)
		}
	}
}

// The unit of the agent has a umask of 0077, and git or rsync may be run by another user.
func TestStore_canBeReadByOthers(t *testing.T) { // not parallel: the umask is that of the process
	was := syscall.Umask(0o077)
	defer syscall.Umask(was)
	dir := filepath.Join(t.TempDir(), "registry")
	if err := New(dir, "acme").Put("site/abc/rec", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		info, err2 := entry.Info()
		if err == nil && err2 == nil && info.Mode()&0o044 != 0o044 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}

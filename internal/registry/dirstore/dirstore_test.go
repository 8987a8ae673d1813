package dirstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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

// A directory of a network may be a link, and so may those of grants, records and hosts in it. What
// is no directory is an error, and no empty network. Below these, where sites write, no link is
// followed, and nothing waits for a pipe, whatever has become of a file since it was listed.
func TestStore_linksAndPipes(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	real := New(elsewhere, "real")
	for _, key := range []string{"crl", "grant/a", "site/a/rec", "site/b/rec"} {
		if err := real.Put(key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(elsewhere, "real", name) }
	must(os.Symlink(in(""), filepath.Join(dir, "acme")))
	must(os.Rename(in("site"), filepath.Join(elsewhere, "records")))
	must(os.Symlink("../records", in("site")))
	must(os.Symlink("/etc/passwd", in("site/a/x.json")))
	must(os.Symlink("/etc", in("site/c")))
	must(syscall.Mkfifo(in("site/b/up.json"), 0o600))
	s := New(dir, "acme")
	all, err := s.Listing()
	if err != nil || len(all.Values) != 4 || string(all.Values["site/b/rec"]) != "site/b/rec" || all.Surplus != 3 || all.Whose != "site/a/" {
		t.Errorf("%d documents, %v; %d were passed over, the first of %q", len(all.Values), err, all.Surplus, all.Whose)
	}
	// A reader sees through links whether anything has changed.
	later, earlier := time.Now().Add(2*settled), time.Now().Add(-time.Hour)
	must(os.Chtimes(filepath.Join(elsewhere, "records"), earlier, earlier))
	r := s.Reader()
	first, err := r.Listing(later)
	second, err2 := r.Listing(later)
	if err := errors.Join(err, err2); err != nil || first != second {
		t.Errorf("what has not changed is read again: %v", err)
	}
	must(New(elsewhere, "records").Put("d/rec", []byte("another")))
	if third, err := r.Listing(later); err != nil || string(third.Values["site/d/rec"]) != "another" {
		t.Errorf("a change behind a link is not seen: %v", err)
	}
	for key, want := range map[string]string{"site/b/up": "is not a regular file", "site/a/x": "is not a regular file"} {
		if _, err := s.Get(key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", key, err)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	for _, name := range []string{"file", "dangling"} {
		if all, err := New(dir, name).Listing(); err == nil {
			t.Errorf("%s is a network of %d documents", name, len(all.Values))
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

package dirstore

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What has changed in a directory is seen at the next look, by whatever means it was changed; what
// has not is not read again.
func TestReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(dir, "acme")
	before := time.Now()
	put := func(key, value string) {
		t.Helper()
		if err := s.Put(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"crl", "grant/a", "site/a/rec", "site/b/rec"} {
		put(key, "1")
	}
	r := s.Reader()
	path := func(key string) string { return filepath.Join(dir, "acme", key+".json") }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		what      string
		change    func()
		key, want string
		len       int
	}{
		{"nothing", func() {}, "crl", "1", 4},
		{"a file that is replaced", func() { put("crl", "2") }, "crl", "2", 4},
		{"a file that is written to, of the same length", func() {
			do(os.WriteFile(path("grant/a"), []byte("2"), 0o600))
			do(os.Chtimes(path("grant/a"), time.Time{}, time.Now().Add(time.Second)))
		}, "grant/a", "2", 4},
		{"a file that is written to, whose time is put back", func() {
			info, err := os.Stat(path("site/a/rec"))
			do(err)
			do(os.WriteFile(path("site/a/rec"), []byte("33"), 0o600))
			do(os.Chtimes(path("site/a/rec"), info.ModTime(), info.ModTime()))
		}, "site/a/rec", "33", 4},
		{"a new file", func() { put("site/a/up", "1") }, "site/a/up", "1", 5},
		{"a new directory", func() { put("site/c/rec", "1") }, "site/c/rec", "1", 6},
		{"a file that goes", func() { do(os.Remove(path("site/c/rec"))) }, "site/c/rec", "", 5},
		{"a directory that goes", func() { do(os.RemoveAll(filepath.Join(dir, "acme", "site", "b"))) }, "site/b/rec", "", 4},
		{"a directory that is put in place of another", func() {
			put("../other/a", "4")
			do(os.RemoveAll(filepath.Join(dir, "acme", "grant")))
			do(os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, "acme", "grant")))
		}, "grant/a", "4", 4},
	} {
		step.change()
		now := time.Now()
		all, err := r.Listing(before) // as if changing it had taken no time, on whatever disk
		do(err)
		if string(all.Values[step.key]) != step.want || len(all.Values) != step.len {
			t.Errorf("%s: %q of %d documents, want %q of %d", step.what, all.Values[step.key], len(all.Values), step.want, step.len)
		}
		if again, err := r.Listing(before); err != nil || again == all {
			t.Errorf("%s: what has just changed is not looked at again: %v", step.what, err)
		}
		later, err := r.Listing(now.Add(2 * settled))
		do(err)
		for range 2 {
			if again, err := r.Listing(now.Add(3 * settled)); err != nil || again != later {
				t.Errorf("%s: everything is read again although nothing has changed: %v", step.what, err)
			}
		}
		before = time.Now()
	}
	now := time.Now()
	last, err := r.Listing(now)
	do(err)
	if again, err := r.Listing(now.Add(readAgain + time.Second)); err != nil || again == last || len(again.Values) != 4 {
		t.Errorf("after %v nothing is read again: %v", readAgain, err)
	}
	do(os.RemoveAll(filepath.Join(dir, "acme")))
	if _, err := r.Listing(now); err == nil {
		t.Error("a directory that has gone is no error")
	}
	put("crl", "9")
	if all, err := r.Listing(now); err != nil || string(all.Values["crl"]) != "9" {
		t.Errorf("a directory that is back: %v", err)
	}
}

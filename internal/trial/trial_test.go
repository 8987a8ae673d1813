package trial

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFormer_countsForTheFileOnTrialAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := func(what, file, former string) {
		t.Helper()
		if got, err := Former(dir, []byte(file)); err != nil || string(got) != former {
			t.Errorf("%s: %q, %v, want %q", what, got, err, former)
		}
	}
	want("no record", "new", "")
	if _, err := Keep(dir, []byte("new"), []byte("old")); err != nil {
		t.Fatal(err)
	}
	want("on trial", "new", "old")
	want("the file was changed", "newer", "")
	if info, err := os.Stat(filepath.Join(dir, fileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for range 2 {
		if err := Forget(dir); err != nil {
			t.Error(err)
		}
	}
	want("forgotten", "new", "")
}

func TestFormer_damagedRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Keep(dir, []byte("new"), []byte("the former one")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if former, err := Former(dir, []byte("new")); err == nil || former != nil {
			t.Errorf("%d of %d bytes: %q, %v", n, len(whole), former, err)
		}
	}
}

func TestKeep_isTakenBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	back := func(onTrial, former string) {
		t.Helper()
		undo, err := Keep(dir, []byte(onTrial), []byte(former))
		if err != nil {
			t.Fatal(err)
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
	}
	back("new", "old")
	if _, err := os.Stat(filepath.Join(dir, fileName)); !os.IsNotExist(err) {
		t.Errorf("there was no record, and now: %v", err)
	}
	if _, err := Keep(dir, []byte("new"), []byte("old")); err != nil {
		t.Fatal(err)
	}
	back("newer", "new")
	if got, err := Former(dir, []byte("new")); err != nil || string(got) != "old" {
		t.Errorf("%q, %v, want the record that there was", got, err)
	}
}

func TestKeep_withoutADirectoryIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := Keep(filepath.Join(t.TempDir(), "none"), []byte("new"), []byte("old")); err == nil {
		t.Error("no error")
	}
}

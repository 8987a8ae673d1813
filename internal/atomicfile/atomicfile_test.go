package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func has(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || string(data) != text || info.Mode().Perm() != mode {
		t.Errorf("%s: %q with mode %v, %v, want %q with %04o", path, data, info.Mode(), err, text, mode)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for _, text := range []string{"first", "second, which is longer", ""} {
		if err := Replace(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		has(t, path, text, 0o640)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the file there is %v, %v", entries, err)
	}
}

// A reader that has the old file open goes on reading it.
func TestReplace_leavesTheOldFileToItsReaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	if err := Replace(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Replace(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	var text [8]byte
	if n, _ := f.Read(text[:]); string(text[:n]) != "old" {
		t.Errorf("reads %q", text[:n])
	}
	has(t, path, "new", 0o600)
}

func TestReplace_failsWithoutATrace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := Replace(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := Replace(path, []byte("new"), 0o600, func(*os.File) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("ended with %v", err)
	}
	has(t, path, "old", 0o600)
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(dir, "dir"), nil, 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("there is %v, %v", entries, err)
	}
	// The name of the temporary file is not in the error, which would be another one each time.
	gone := filepath.Join(dir, "none", "state")
	if err := Replace(gone, nil, 0o600); !errors.Is(err, fs.ErrNotExist) || err.Error() != "open "+gone+": no such file or directory" {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

// What a process that was killed has left behind is removed, and nothing else.
func TestClean(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a*[b]?")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	killed := errors.New("killed")
	left := ""
	_ = Replace(filepath.Join(dir, "state"), nil, 0o600, func(f *os.File) error {
		left = f.Name()
		return killed
	})
	for _, name := range []string{left, filepath.Join(dir, "state"), filepath.Join(dir, ".hidden"), filepath.Join(dir, "new-1")} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Clean(dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

package secretfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tund/cmd/tunctl/internal/exit"
)

// want fails the test unless the file at path has this text and this mode.
func want(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != text || info.Mode().Perm() != mode {
		t.Errorf("%s: %q with mode %04o, want %q with %04o", path, data, info.Mode().Perm(), text, mode)
	}
}

// alone fails the test if dir holds anything but the named files: nothing is left half written.
func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the directory has %q, want %q", got, names)
	}
}

func TestWrite_keepsWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "office.key")
	if err := Write(path, []byte("one\n"), false); err != nil {
		t.Fatal(err)
	}
	want(t, path, "one\n", 0o600)

	err := Write(path, []byte("two\n"), false)
	var failure *exit.Failure
	if !errors.As(err, &failure) || failure.Code != exit.Failed || !strings.Contains(failure.Text, "--force") {
		t.Errorf("a file that is there: %v", err)
	}
	want(t, path, "one\n", 0o600)

	if err := Write(path, []byte("three\n"), true); err != nil {
		t.Fatal(err)
	}
	want(t, path, "three\n", 0o600)
	alone(t, dir, "office.key")
}

func TestWrite_intoADirectoryThatIsNotThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "missing", "office.key")
	for _, force := range []bool{false, true} {
		if err := Write(path, []byte("one\n"), force); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("force %v: %v", force, err)
		}
	}
}

func TestReplace_keepsModeAndLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "office.toml"), filepath.Join(dir, "link.toml")
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if err := os.Symlink("office.toml", link); err != nil {
		t.Fatal(err)
	}
	if err := Replace(link, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, path, "new", 0o640)
	if target, err := os.Readlink(link); err != nil || target != "office.toml" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if err := Replace(filepath.Join(dir, "more.toml"), []byte("more"), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, filepath.Join(dir, "more.toml"), "more", 0o644)
	alone(t, dir, "link.toml", "more.toml", "office.toml")
}

func TestReplace_failsWithoutATrace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "office.toml")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new"), 0o600); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("in the place of a directory: %v", err)
	}
	alone(t, dir, "office.toml")
}

func TestRead_bounds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "office.key")
	if err := os.WriteFile(path, []byte("12345678"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := Read(path, 8); err != nil || string(data) != "12345678" {
		t.Errorf("at the limit: %q, %v", data, err)
	}
	if _, err := Read(path, 7); err == nil || !strings.Contains(err.Error(), path+": larger than 7 bytes") {
		t.Errorf("above the limit: %v", err)
	}
	if _, err := Read(path+".none", 7); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "office.key")
	var out, errs bytes.Buffer
	s := &Streams{In: strings.NewReader("from standard input"), Out: &out, Err: &errs}
	if data, err := s.Read("-", MaxKey); err != nil || string(data) != "from standard input" {
		t.Errorf("read %q, %v", data, err)
	}
	if err := s.Write("", []byte("to standard output"), false); err != nil || out.String() != "to standard output" || errs.Len() > 0 {
		t.Errorf("wrote %q, said %q, %v", &out, &errs, err)
	}
	s.Exposed = true
	if err := s.Write(path, []byte("to a file"), false); err != nil || errs.Len() > 0 {
		t.Errorf("said %q of a file of our own, %v", &errs, err)
	}
	want(t, path, "to a file", 0o600)
	if err := s.Write("", nil, false); err != nil || !strings.Contains(errs.String(), "others may read this file") {
		t.Errorf("said %q of a file that others may read, %v", &errs, err)
	}
}

// The owner of a file stays its owner, also when root replaces it.
func TestReplace_keepsTheOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	path := filepath.Join(t.TempDir(), "office.toml")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid, gid := owner(info); uid != nobody || gid != nobody {
		t.Errorf("belongs to %d:%d now", uid, gid)
	}
}

// A full disk: here, a limit for the size of files. It is not parallel, because the limit is the
// whole process's.
func TestWrite_leavesNothingOfAFileThatDoesNotFit(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := func(l unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, force := range []bool{false, true} {
		limit(unix.Rlimit{Cur: 8, Max: was.Max})
		err := Write(filepath.Join(dir, "key"), []byte("more than eight bytes"), force)
		limit(was)
		if !errors.Is(err, unix.EFBIG) {
			t.Errorf("force %v: %v", force, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("force %v: %v is left, %v", force, left, err)
		}
	}
}

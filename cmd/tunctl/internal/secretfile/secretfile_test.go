package secretfile

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

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

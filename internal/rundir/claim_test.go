package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The service runs as a user of its own, so root cleans up in a directory that is not root's.
func TestHold_inAnotherUsersDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory away")
	}
	const nobody = 65534
	foreign := func(t *testing.T) (runDir string, lock *os.File) {
		runDir = t.TempDir()
		dir := filepath.Join(runDir, "office")
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		lock, err := os.Create(filepath.Join(dir, lockName))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = lock.Close() })
		for _, path := range []string{dir, lock.Name()} {
			if err := os.Chown(path, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		return runDir, lock
	}
	t.Run("that runs", func(t *testing.T) {
		t.Parallel()
		runDir, lock := foreign(t)
		if _, err := lock.WriteString("4711\n"); err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		_, err := Hold(runDir, "office")
		if !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "as process 4711") {
			t.Errorf("got %v, want that process 4711 runs it", err)
		}
	})
	t.Run("that was killed", func(t *testing.T) {
		t.Parallel()
		runDir, lock := foreign(t)
		release, err := Hold(runDir, "office")
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("an instance could start meanwhile: %v", err)
		}
		release()
		if _, err := os.Lstat(Instance(runDir, "office")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its directory is still there: %v", err)
		}
	})
	t.Run("with a trap for root in it", func(t *testing.T) {
		t.Parallel()
		runDir, lock := foreign(t)
		target := filepath.Join(runDir, "shadow")
		if err := errors.Join(os.WriteFile(target, []byte("secret"), 0o600), os.Remove(lock.Name()),
			os.Symlink(target, lock.Name()), os.Symlink(target, ControlSocket(runDir, "office"))); err != nil {
			t.Fatal(err)
		}
		if _, err := Hold(runDir, "office"); err == nil {
			t.Error("the symbolic link was followed")
		}
		if text, err := os.ReadFile(target); err != nil || string(text) != "secret" {
			t.Errorf("its target is %q, %v", text, err)
		}
	})
}

package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListen_makesGuardedFilesAndCloseRemovesThem(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shortDir(t), "run", "tund")
	s, err := Listen(Options{RunDir: dir, Instance: "office"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{
		dir:                                    0o755 | os.ModeDir,
		filepath.Join(dir, "office"):           0o750 | os.ModeDir,
		SocketPath(dir, "office"):              0o660 | os.ModeSocket,
		filepath.Join(dir, "office", lockName): 0o600,
	} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", path, info.Mode(), want)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := s.Serve(&fakeBackend{}); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "office")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestListen_refusesALiveInstanceAndReplacesADeadOne(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	s, err := Listen(Options{RunDir: dir, Instance: "office"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Listen(Options{RunDir: dir, Instance: "office"})
	if !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), fmt.Sprintf("already running as process %d", os.Getpid())) {
		t.Errorf("second Listen: %v", err)
	}
	if _, err := os.Lstat(s.Path()); err != nil {
		t.Errorf("the live socket is gone: %v", err)
	}
	// What SIGKILL leaves: the lock is free, the files are there.
	s.claim.lock.Close()
	s.socket.Close()
	again, err := Listen(Options{RunDir: dir, Instance: "office"})
	if err != nil {
		t.Fatalf("Listen over stale files: %v", err)
	}
	again.Close()
}

func TestListen_saysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	write := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "file"))
	write(SocketPath(dir, "socket"))
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, name, want string }{
		{dir, "file", "not a directory"},
		{dir, "link", "not a directory"},
		{dir, "socket", "not a socket"},
		{dir, "", "empty"},
		{dir, "..", "name of a directory"},
		{dir, "a/b", "other than letters"},
		{dir, strings.Repeat("x", 65), "64 bytes"},
		{filepath.Join(dir, strings.Repeat("y", 100)), "office", "TUND_RUN_DIR"},
	} {
		s, err := Listen(Options{RunDir: c.dir, Instance: c.name})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("instance %q: error %v, want %q in it", c.name, err, c.want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", lockName)); len(left) != 0 {
		t.Errorf("left over: %q", left)
	}
}

// Starters and stoppers of one instance meet in every order: at most one ever holds it.
func TestListen_isWonByOneAtATime(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	var mu sync.Mutex
	holders, wins := 0, 0
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 40 {
				s, err := Listen(Options{RunDir: dir, Instance: "x"})
				if errors.Is(err, ErrRunning) {
					continue
				}
				if err != nil {
					t.Errorf("Listen: %v", err)
					return
				}
				mu.Lock()
				holders++
				wins++
				if holders > 1 {
					t.Error("two servers hold one instance")
				}
				mu.Unlock()
				if _, err := os.Lstat(s.Path()); err != nil {
					t.Errorf("the winner's socket: %v", err)
				}
				mu.Lock()
				holders--
				mu.Unlock()
				s.Close()
			}
		})
	}
	group.Wait()
	if wins == 0 {
		t.Error("nobody ever won")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
}

// The service runs as a user of its own, so root cleans up in a directory that is not root's.
func TestHold_inAnotherUsersDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory away")
	}
	const nobody = 65534
	foreign := func(t *testing.T) (runDir string, lock *os.File) {
		runDir = shortDir(t)
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
		if _, err := os.Lstat(InstanceDir(runDir, "office")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its directory is still there: %v", err)
		}
	})
	t.Run("with a trap for root in it", func(t *testing.T) {
		t.Parallel()
		runDir, lock := foreign(t)
		target := filepath.Join(runDir, "shadow")
		if err := errors.Join(os.WriteFile(target, []byte("secret"), 0o600), os.Remove(lock.Name()),
			os.Symlink(target, lock.Name()), os.Symlink(target, SocketPath(runDir, "office"))); err != nil {
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

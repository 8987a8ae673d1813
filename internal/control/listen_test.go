package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tund/internal/rundir"
	"tund/internal/unixsock/unixsocktest"
)

func TestListen_makesGuardedFilesAndCloseRemovesThem(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(unixsocktest.Dir(t), "run", "tund")
	s, err := Listen(Options{RunDir: dir, Instance: "office"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{
		dir:                                 0o755 | os.ModeDir,
		filepath.Join(dir, "office"):        0o750 | os.ModeDir,
		rundir.ControlSocket(dir, "office"): 0o660 | os.ModeSocket,
		filepath.Join(dir, "office", "control.lock"): 0o600,
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
	dir := unixsocktest.Dir(t)
	s, err := Listen(Options{RunDir: dir, Instance: "office"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Listen(Options{RunDir: dir, Instance: "office"})
	if !errors.Is(err, rundir.ErrRunning) || !strings.Contains(err.Error(), fmt.Sprintf("already running as process %d", os.Getpid())) {
		t.Errorf("second Listen: %v", err)
	}
	if _, err := os.Lstat(s.Path()); err != nil {
		t.Errorf("the live socket is gone: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What SIGKILL leaves: the lock is free, the files are there.
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "office"), 0o750),
		os.WriteFile(filepath.Join(dir, "office", "control.lock"), []byte("4711\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.Path()})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	again, err := Listen(Options{RunDir: dir, Instance: "office"})
	if err != nil {
		t.Fatalf("Listen over stale files: %v", err)
	}
	again.Close()
}

func TestListen_saysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
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
	write(rundir.ControlSocket(dir, "socket"))
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
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "control.lock")); len(left) != 0 {
		t.Errorf("left over: %q", left)
	}
}

// Starters and stoppers of one instance meet in every order: at most one ever holds it.
func TestListen_isWonByOneAtATime(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
	var mu sync.Mutex
	holders, wins := 0, 0
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 40 {
				s, err := Listen(Options{RunDir: dir, Instance: "x"})
				if errors.Is(err, rundir.ErrRunning) {
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

package uapi

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"tund/internal/unixsock/unixsocktest"
)

func TestListen_filesAndTheirModes(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := serve(t, &fake{})
	dir, err := os.Stat(filepath.Dir(s.Path()))
	if err != nil || dir.Mode().Perm() != 0o755 {
		t.Errorf("directory: %v (%v), want mode 0755", dir.Mode(), err)
	}
	socket, err := os.Lstat(s.Path())
	if err != nil || socket.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket: %v (%v), want mode 0600", socket.Mode(), err)
	}
}

func TestListen_replacesWhatIsStaleAndRefusesWhatIsAlive(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{})
	o := Options{Dir: filepath.Dir(s.Path()), Device: "wg0"}
	if _, err := Listen(o); !errors.Is(err, ErrInUseSocket) {
		t.Errorf("Listen where somebody listens: %v, want %v", err, ErrInUseSocket)
	}
	o.Device = "wg1"
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(o.Dir, "wg1.sock")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	again, err := Listen(o)
	if err != nil {
		t.Fatalf("Listen where a socket was left behind: %v", err)
	}
	_ = again.Close()
	if err := os.WriteFile(filepath.Join(o.Dir, "wg1.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(o); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("Listen where a file is: %v, want a refusal", err)
	}
}

func TestListen_oneOfManyWins(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{})
	o := Options{Dir: filepath.Dir(s.Path()), Device: "many"}
	var wins sync.Map
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if s, err := Listen(o); err == nil {
				wins.Store(i, s)
			} else if !errors.Is(err, ErrInUseSocket) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := 0
	wins.Range(func(_, s any) bool {
		n++
		_ = s.(*Server).Close()
		return true
	})
	if n != 1 {
		t.Errorf("%d listen, want 1", n)
	}
}

func TestListen_takesOverASocket(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "wg7.sock")})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	s, err := Listen(Options{File: file})
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(&fake{})
	if got := say(t, dial(t, s.Path()), "get=1\n\n"); got != "errno=0\n\n" {
		t.Errorf("get is answered with %q", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after Close: %v", err)
	}
}

func TestRemoveStale_takesOnlyWhatNobodyServes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "wg1.sock")
	if err := RemoveStale(filepath.Join(dir, "none"), "wg1"); err != nil {
		t.Errorf("no directory: %v", err)
	}
	if err := RemoveStale(dir, "wg1"); err != nil {
		t.Errorf("no socket: %v", err)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	socket.SetUnlinkOnClose(false)
	if err := RemoveStale(dir, "wg1"); err != nil {
		t.Errorf("socket that answers: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("socket that answers was removed: %v", err)
	}
	_ = socket.Close()
	if err := RemoveStale(dir, "wg1"); err != nil {
		t.Errorf("stale socket: %v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("stale socket is still there")
	}
}

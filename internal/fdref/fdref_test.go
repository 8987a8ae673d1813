package fdref

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// isOpen reports whether the descriptor number is in use.
func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// null opens a descriptor high enough that nothing else takes its number soon.
func null(t *testing.T) int {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 500)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestRef_closesAfterTheLastUser(t *testing.T) {
	fd, also := null(t), null(t)
	r := New(fd, also)
	for range 2 {
		if !r.Enter() {
			t.Fatal("not let in")
		}
	}
	if !r.Shut() || r.Shut() {
		t.Error("want the first Shut to return true and the second false")
	}
	if r.Enter() || !r.Closing() {
		t.Error("let in after Shut")
	}
	r.Leave() // the one who shut it
	r.Leave()
	if !isOpen(fd) || !isOpen(also) {
		t.Error("closed while one is inside")
	}
	r.Leave()
	if isOpen(fd) || isOpen(also) {
		t.Error("still open after the last has left")
	}
	if r.Enter() || r.Shut() {
		t.Error("let in after the end")
	}
}

func TestRef_closesOnceUnderContention(t *testing.T) {
	for range 20 {
		fd := null(t)
		r := New(fd)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for r.Enter() {
					if !isOpen(r.FD()) {
						t.Error("closed under a user")
					}
					r.Leave()
				}
			})
		}
		wg.Go(func() {
			if r.Shut() {
				r.Leave()
			}
		})
		wg.Wait()
		if isOpen(fd) {
			t.Fatal("left open")
		}
	}
}

package handover

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func put(t *testing.T, secret []byte) int {
	t.Helper()
	fd, err := Put(secret)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// again is a second descriptor of the same memory, as the store of a service manager has one.
func again(t *testing.T, fd int) int {
	t.Helper()
	second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return second
}

func TestTake_givesTheSecretOnceAndErasesIt(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte("keys"), 5000)
	fd := put(t, secret)
	stored, look := again(t, fd), again(t, fd)
	defer func() { _ = unix.Close(look) }()
	got, err := Take(fd)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	left := make([]byte, headerSize+len(secret))
	if err := readAt(look, left); err != nil || len(bytes.Trim(left, "\x00")) != 0 {
		t.Errorf("the memory still holds something (%v)", err)
	}
	if got, err := Take(stored); !errors.Is(err, ErrUsed) || got != nil {
		t.Errorf("taken again: %d bytes, %v", len(got), err)
	}
}

func TestPut_sealsTheSize(t *testing.T) {
	t.Parallel()
	fd := put(t, []byte("secret"))
	defer func() { _ = unix.Close(fd) }()
	if unix.Ftruncate(fd, 1) == nil || unix.Ftruncate(fd, 1<<20) == nil {
		t.Error("the size can be changed")
	}
}

func TestTake_refusesWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	damage := map[string]func(fd int) error{
		"another version": func(fd int) error { return writeAt(fd, []byte("tund handover 2\n"), 0) },
		"another secret":  func(fd int) error { return writeAt(fd, []byte("S"), int64(headerSize)) },
		"another length":  func(fd int) error { return writeAt(fd, []byte{1}, int64(len(magic))) },
	}
	for name, do := range damage {
		fd := put(t, []byte("secret"))
		look := again(t, fd)
		if err := do(fd); err != nil {
			t.Fatal(err)
		}
		if got, err := Take(fd); err == nil || got != nil {
			t.Errorf("%s: taken %q", name, got)
		}
		// Refused, and erased all the same.
		if got, err := Take(look); !errors.Is(err, ErrUsed) {
			t.Errorf("%s: then %q, %v", name, got, err)
		}
	}
	plain, err := unix.MemfdCreate("plain", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(plain, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(plain); err == nil {
		t.Error("taken from memory that may shrink meanwhile")
	}
}

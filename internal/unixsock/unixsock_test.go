package unixsock_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/unixsock"
	"tund/internal/unixsock/unixsocktest"
)

// TestListen_modeWhateverTheUmask is not parallel: the umask is the process's.
func TestListen_modeWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		for _, mode := range []fs.FileMode{0o600, 0o660} {
			path := filepath.Join(unixsocktest.Dir(t), "s")
			was := unix.Umask(umask)
			l, err := unixsock.Listen(path, unixsock.Options{Mode: mode, Group: -1})
			unix.Umask(was)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|mode {
				t.Errorf("umask %#o: mode %v (%v), want %v", umask, info.Mode(), err, mode)
			}
			_ = l.Close()
			if there, err := unixsock.Exists(path); !there || err != nil {
				t.Errorf("after Close: there %v, %v; want the file to stay", there, err)
			}
		}
	}
}

func TestListen_doesNotReplaceAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(unixsocktest.Dir(t), "s")
	l, err := unixsock.Listen(path, unixsock.Options{Mode: 0o600, Group: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if other, err := unixsock.Listen(path, unixsock.Options{Mode: 0o600, Group: -1}); err == nil {
		_ = other.Close()
		t.Error("a second socket took the place of the first")
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	} else {
		_ = conn.Close()
	}
}

func TestExists_tellsSocketsFromOtherFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(unixsocktest.Dir(t), "s")
	if there, err := unixsock.Exists(path); there || err != nil {
		t.Errorf("nothing is there: %v, %v", there, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := unixsock.Exists(path); err == nil || !strings.Contains(err.Error(), path+" is in the way") {
		t.Errorf("a file: %v, want an error that names it", err)
	}
}

func TestBackoff_growsToASecondAndStartsAnew(t *testing.T) {
	t.Parallel()
	var b unixsock.Backoff
	want := 5 * time.Millisecond
	for n := range 16 {
		pause, first := b.Failed()
		if pause != want || first != (n == 0) {
			t.Errorf("failure %d: pause %v, first %t; want %v", n, pause, first, want)
		}
		want = min(2*want, time.Second)
	}
	b.Succeeded()
	if pause, first := b.Failed(); pause != 5*time.Millisecond || !first {
		t.Errorf("after a success: %v, first %t", pause, first)
	}
}

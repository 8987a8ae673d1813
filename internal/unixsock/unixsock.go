// Package unixsock has the common part of the daemon's unix sockets: binding with the right mode
// from the first moment, removing a socket that a killed daemon left, and back-off after failures
// to accept.
//
// The servers decide which socket may be removed, who is admitted and what is said on a connection.
//
// Sources: unix(7), bind(2).
package unixsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxPath is the greatest length of a socket's path in bytes: sun_path has one more, for the final
// zero.
const MaxPath = 107

// Options say how a socket file is made.
type Options struct {
	Mode fs.FileMode // permission bits
	// Group owns the file unless it is negative. Where the caller may not give the file to it, the
	// file stays with the group that it got from the kernel.
	Group int
}

// Listen binds a socket at path, whatever the umask is. At no time can anybody connect who could
// not under o.Mode. Closing the listener leaves the file: its owner removes it, while it is sure
// that the file is its own. When somebody removes the file meanwhile, the error wraps
// fs.ErrNotExist.
func Listen(path string, o Options) (*net.UnixListener, error) {
	// The file that bind makes has the mode of the socket's inode, less the umask.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var chmod error
		if err := raw.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), uint32(o.Mode.Perm())) }); err != nil {
			return err
		}
		return chmod
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	l := listener.(*net.UnixListener)
	l.SetUnlinkOnClose(false)
	if o.Group >= 0 {
		_ = os.Chown(path, -1, o.Group)
	}
	if err := os.Chmod(path, o.Mode.Perm()); err != nil { // the umask may have taken something away
		_ = l.Close()
		if !errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(path)
		}
		return nil, err
	}
	return l, nil
}

// Exists reports whether there is a socket at path, whether or not anybody serves it. A file of
// another kind is an error that names the next step.
func Exists(path string) (bool, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.Mode().Type() != fs.ModeSocket:
		return false, fmt.Errorf("%s is in the way: it is not a socket (remove it)", path)
	}
	return true, nil
}

// Pauses after failures to accept. A failure such as a lack of descriptors lasts, so trying at once
// would only take time from those who could end it.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// Backoff paces a loop that accepts connections. The zero value is ready to use, by one goroutine.
type Backoff struct{ pause time.Duration }

// Failed returns how long to wait before the next attempt, and whether this is the first of a run
// of failures: the only one worth a line in the log.
func (b *Backoff) Failed() (pause time.Duration, first bool) {
	first = b.pause == 0
	b.pause = min(max(2*b.pause, minPause), maxPause)
	return b.pause, first
}

// Succeeded ends a run of failures.
func (b *Backoff) Succeeded() { b.pause = 0 }

// Credentials returns the user and the process at the other end of a connection, as the kernel
// recorded them when it was made (SO_PEERCRED, unix(7)); ok is false if they are not known. The
// process may have ended since.
func Credentials(conn *net.UnixConn) (uid, pid int, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			uid, pid, ok = int(cred.Uid), int(cred.Pid), true
		}
	})
	return uid, pid, ok
}

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Pauses after a failure to accept.
const (
	acceptDelayMin = 5 * time.Millisecond
	acceptDelayMax = time.Second
)

// bindSocket replaces a socket file that nobody serves (the caller holds the claim, so nobody does)
// and listens.
func bindSocket(c *claim, path string) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control socket path %s is %d bytes long (at most %d): choose a shorter TUND_RUN_DIR",
			path, len(path), maxSocketPath)
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("%s is in the way: not a socket (remove it)", path)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove stale control socket: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// The mode of a socket's inode before bind is the mode of the file that bind makes (less the
	// umask), so at no time can anybody connect who should not.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var chmod error
		if err := raw.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o660) }); err != nil {
			return err
		}
		return chmod
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	unixListener := listener.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false) // Server.Close removes it, while it still holds the claim
	if c.gid >= 0 {
		_ = os.Chown(path, -1, c.gid)
	}
	if err := os.Chmod(path, 0o660); err != nil { // a umask of 077 took the group away
		_ = listener.Close()
		_ = os.Remove(path)
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return unixListener, nil
}

// boundedListener hands out connections as far as there are places for their callers, each with its
// peer's credentials, and outlives every error but its own end: running out of file descriptors
// must not end the control API.
type boundedListener struct {
	net.Listener
	log    *zap.Logger
	gate   *gate
	closed chan struct{}
	once   sync.Once
	// wait pauses after an error, and returns false when the listener was closed meanwhile.
	wait func(time.Duration) bool
	// identify is credentials, replaced in tests.
	identify func(net.Conn) caller
}

// newBoundedListener bounds inner, which it closes when it is closed.
func newBoundedListener(inner net.Listener, log *zap.Logger) *boundedListener {
	l := &boundedListener{Listener: inner, log: log, gate: newGate(), closed: make(chan struct{}), identify: credentials}
	l.wait = func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-l.closed:
			return false
		}
	}
	return l
}

// Accept returns the next connection within the limits. The only error is net.ErrClosed.
func (l *boundedListener) Accept() (net.Conn, error) {
	var delay time.Duration
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, net.ErrClosed
			}
			if delay == 0 { // the first of a run of failures: the rest would say the same
				l.log.Warn("control socket cannot accept, trying again", zap.Error(err))
			}
			delay = min(max(2*delay, acceptDelayMin), acceptDelayMax)
			if !l.wait(delay) {
				return nil, net.ErrClosed
			}
			continue
		}
		delay = 0
		c := &boundedConn{Conn: conn, caller: l.identify(conn)}
		if l.gate.admit(c, time.Now()) {
			return c, nil
		}
		_ = conn.Close()
	}
}

// Close ends Accept, also while it waits after an error.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	net.Conn
	caller caller
	places *places

	// Guarded by places.mu.
	since     time.Time // when answering last changed, or the connection came
	answering bool      // a request is complete, and its answer is not
}

// Close closes the connection and frees its place.
func (c *boundedConn) Close() error {
	c.places.remove(c)
	return c.Conn.Close()
}

// caller is who is at the other end of a connection, as the kernel recorded it at connect time.
type caller struct {
	uid, pid int
	known    bool // the kernel told
	refused  bool // there are too many connections: answer nothing but that
}

// mayWrite reports whether the caller may use verbs that change something: root, and the daemon's
// own user.
func (c caller) mayWrite() bool { return c.known && (c.uid == 0 || c.uid == os.Geteuid()) }

// user tells users apart: a number that no other user has, and unknown callers share.
func (c caller) user() int {
	if !c.known {
		return -1
	}
	return c.uid
}

// credentials asks the kernel who connected; an unknown caller may only read.
func credentials(conn net.Conn) caller {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return caller{}
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return caller{}
	}
	var who caller
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			who = caller{uid: int(cred.Uid), pid: int(cred.Pid), known: true}
		}
	})
	return who
}

package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
	"tund/internal/unixsock"

	"go.uber.org/zap"
)

// bindSocket listens at path. It replaces a socket that is there: the caller holds the claim, so
// nobody serves it.
func bindSocket(c *claim, path string) (*net.UnixListener, error) {
	if len(path) > unixsock.MaxPath {
		return nil, fmt.Errorf("control socket path %s is %d bytes long (at most %d): choose a shorter TUND_RUN_DIR",
			path, len(path), unixsock.MaxPath)
	}
	stale, err := unixsock.Exists(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if stale {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove stale control socket: %w", err)
		}
	}
	listener, err := unixsock.Listen(path, unixsock.Options{Mode: 0o660, Group: c.gid})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return listener, nil // Server.Close removes the file, while it still holds the claim
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
	var backoff unixsock.Backoff
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, net.ErrClosed
			}
			pause, first := backoff.Failed()
			if first {
				l.log.Warn("control socket cannot accept a connection; trying again", zap.Error(err))
			}
			if !l.wait(pause) {
				return nil, net.ErrClosed
			}
			continue
		}
		backoff.Succeeded()
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
	var who caller
	who.uid, who.pid, who.known = unixsock.Credentials(unixConn)
	return who
}

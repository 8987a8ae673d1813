// Package admission decides whose connections to a control socket are served: it knows each caller
// by what the kernel says of it, and bounds how many connections there are, so that nobody with
// read access can lock an administrator out.
//
// What a caller may do is for internal/control: only who may change something has places of its
// own. The package reads and writes no requests.
//
// Concurrency: everything may be used from several goroutines.
//
// Sources: unix(7) for SO_PEERCRED.
package admission

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"tund/internal/unixsock"
)

// Listener hands out connections as far as there are places for their callers, each with its
// peer's credentials, and outlives every error but its own end: running out of file descriptors
// must not end the control API.
type Listener struct {
	net.Listener
	log    *zap.Logger
	gate   *gate
	closed chan struct{}
	once   sync.Once
	// wait pauses after an error, and returns false when the listener was closed meanwhile.
	wait     func(time.Duration) bool
	identify func(net.Conn) Caller // who connected
}

// New bounds inner, which it closes when it is closed. Identify says who is at the other end of a
// connection: Credentials.
func New(inner net.Listener, log *zap.Logger, identify func(net.Conn) Caller) *Listener {
	l := &Listener{Listener: inner, log: log, gate: newGate(), closed: make(chan struct{}), identify: identify}
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
func (l *Listener) Accept() (net.Conn, error) {
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
		c := &Conn{Conn: conn, Caller: l.identify(conn)}
		if l.gate.admit(c, time.Now()) {
			return c, nil
		}
		_ = conn.Close()
	}
}

// Close ends Accept, also while it waits after an error.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Conn gives its place back when it is closed.
type Conn struct {
	net.Conn
	Caller
	places *places

	// Guarded by places.mu.
	since     time.Time // when answering last changed, or the connection came
	answering bool      // a request is complete, and its answer is not
}

// Answering notes that a request of the connection begins or ends to be answered: meanwhile it
// keeps its place.
func (c *Conn) Answering(begins bool) { c.places.answer(c, begins) }

// Close closes the connection and frees its place.
func (c *Conn) Close() error {
	c.places.remove(c)
	return c.Conn.Close()
}

// Caller is who is at the other end of a connection, as the kernel recorded it at connect time.
type Caller struct {
	UID, PID int
	Known    bool // the kernel told
	Refused  bool // there are too many connections: answer nothing but that
}

// Root reports whether the caller is root.
func (c Caller) Root() bool { return c.Known && c.UID == 0 }

// MayWrite reports whether the caller may use verbs that change something: root, and the daemon's
// own user.
func (c Caller) MayWrite() bool { return c.Known && (c.UID == 0 || c.UID == os.Geteuid()) }

// user tells users apart: a number that no other user has, and unknown callers share.
func (c Caller) user() int {
	if !c.Known {
		return -1
	}
	return c.UID
}

// Credentials asks the kernel who connected; an unknown caller may only read.
func Credentials(conn net.Conn) Caller {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return Caller{}
	}
	var who Caller
	who.UID, who.PID, who.Known = unixsock.Credentials(unixConn)
	return who
}

package uapi

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// state is what a connection is doing.
type state uint8

const (
	silent  state = iota // no byte of a request yet
	partial              // part of a request is here
	busy                 // a request is being answered
)

// connection is a client's. Reads and writes have deadlines that move with progress.
type connection struct {
	*net.UnixConn

	mu    sync.Mutex // guards what follows; not held while reading or writing
	state state
	since time.Time // when that began
}

// await begins the wait for a request, of which a part may be here already.
func (c *connection) await(begun bool) {
	if begun {
		c.set(partial)
	} else {
		c.set(silent)
	}
}

// working protects the connection from eviction until the next await.
func (c *connection) working() { c.set(busy) }

func (c *connection) set(s state) {
	c.mu.Lock()
	c.state, c.since = s, time.Now()
	c.mu.Unlock()
}

// begun notes that part of a request is here. Its time counts from the first part: more of it, a
// byte at a time, does not keep the place for ever.
func (c *connection) begun() {
	c.mu.Lock()
	if c.state != partial {
		c.state, c.since = partial, time.Now()
	}
	c.mu.Unlock()
}

// Read implements io.Reader.
func (c *connection) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return 0, err
	}
	n, err := c.UnixConn.Read(b)
	if n > 0 {
		c.begun()
	}
	return n, err
}

// Write implements io.Writer, in one system call if the kernel takes all of it.
func (c *connection) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(idleTimeout)); err != nil {
		return 0, err
	}
	return c.UnixConn.Write(b)
}

// evictable returns when the connection may be given up for another; ok is false when it may not.
func (c *connection) evictable() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.state {
	case silent:
		return c.since.Add(silentGrace), true
	case partial:
		return c.since.Add(partialGrace), true
	}
	return time.Time{}, false
}

// hasInput reports whether bytes have come that were not read yet.
func (c *connection) hasInput() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n > 0
}

// connections are those being served. Their number is bounded; when all places are taken, the
// connection that has been idle longest makes room, so that a client that opens thousands keeps
// nobody else out.
type connections struct {
	mu     sync.Mutex // guards open and closed
	open   map[*connection]bool
	closed bool
	freed  chan struct{} // capacity 1: a place became free
}

func (s *connections) init() {
	s.open, s.freed = make(map[*connection]bool), make(chan struct{}, 1)
}

// add gives c a place, or returns how long to wait before trying again.
func (s *connections) add(c *connection, now time.Time) (wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return time.Hour // the caller sees the stop
	}
	if len(s.open) >= maxConns {
		if wait := s.evictLocked(now); wait > 0 {
			return wait
		}
	}
	c.set(silent)
	s.open[c] = true
	return 0
}

// evict gives up the connection idle longest, if there is one.
func (s *connections) evict(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evictLocked(now)
}

// evictLocked gives up the connection whose time ran out first, or returns how long until that is.
func (s *connections) evictLocked(now time.Time) (wait time.Duration) {
	var victim *connection
	var first time.Time
	for c := range s.open {
		at, ok := c.evictable()
		if ok && (victim == nil || at.Before(first)) && (at.After(now) || !c.hasInput()) {
			victim, first = c, at
		}
	}
	if victim == nil {
		return partialGrace // all of them are working; remove wakes us before that
	}
	if wait := first.Sub(now); wait > 0 {
		return wait
	}
	delete(s.open, victim)
	_ = victim.Close()
	return 0
}

// remove takes c out when its goroutine ends.
func (s *connections) remove(c *connection) {
	_ = c.Close()
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// close ends all connections, and takes no more.
func (s *connections) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		_ = c.Close()
	}
}

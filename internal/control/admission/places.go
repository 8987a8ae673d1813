package admission

import (
	"slices"
	"sync"
	"time"
)

// Limits of what asking may cost. Callers that may change something and callers that may only read
// have places of their own, so that nobody with read access can lock the administrator out. A
// client opens one connection, asks and leaves; the numbers are far above what a host full of
// monitoring needs, and cost some 20 KB each.
const (
	maxWriters = 16 // open connections of root and the daemon's own user
	// MaxReaders is how many connections of everybody else who may open the socket are served.
	MaxReaders = 40
	// maxRefused is how many connections of either class are open beyond that, only to be told in
	// HTTP that there are too many.
	maxRefused = 4
	// idleGrace is how long a connection may be silent before another one of the same user may take
	// its place: a client on a busy machine needs this long to say what it wants.
	idleGrace = 50 * time.Millisecond
)

// places are the connections of one class. When all places are taken, the user who has the most of
// them gives one up: the one that has been idle longest. A connection is idle while no complete
// request of it is being answered, so half a request, or one sent byte by byte, does not keep a
// place.
//
// Safe for concurrent use.
type places struct {
	max   int
	grace time.Duration
	// stuck says that also a connection being answered may be given up, for another user: its
	// client may be one that does not read.
	stuck bool

	// Guards open, and the fields of its connections that say so; not held while closing.
	mu   sync.Mutex
	open []*Conn
}

// admit gives c a place, at the cost of another connection, which it closes, if need be. It reports
// whether there is one.
func (p *places) admit(c *Conn, now time.Time) bool {
	p.mu.Lock()
	var victim *Conn
	if len(p.open) >= p.max {
		if victim = p.victim(c.Caller, now); victim == nil {
			p.mu.Unlock()
			return false
		}
		p.open = slices.DeleteFunc(p.open, func(o *Conn) bool { return o == victim })
	}
	c.places, c.since = p, now
	p.open = append(p.open, c)
	p.mu.Unlock()
	if victim != nil {
		_ = victim.Close()
	}
	return true
}

// victim chooses whose place a new connection of who gets; nil when nobody's.
func (p *places) victim(who Caller, now time.Time) *Conn {
	held := make(map[int]int)
	for _, c := range p.open {
		held[c.Caller.user()]++
	}
	var idle, answering *Conn
	most := 0
	for _, n := range held {
		most = max(most, n)
	}
	for _, c := range p.open {
		other := c.Caller.user() != who.user()
		switch {
		case held[c.Caller.user()] < most:
		case c.answering:
			if p.stuck && other && (answering == nil || c.since.Before(answering.since)) {
				answering = c
			}
		case !other && now.Sub(c.since) < p.grace:
		case idle == nil || c.since.Before(idle.since):
			idle = c
		}
	}
	if idle == nil {
		return answering
	}
	return idle
}

// remove takes c out; again, it does nothing.
func (p *places) remove(c *Conn) {
	p.mu.Lock()
	p.open = slices.DeleteFunc(p.open, func(o *Conn) bool { return o == c })
	p.mu.Unlock()
}

// answer notes that a request of c begins or ends to be answered.
func (p *places) answer(c *Conn, begins bool) {
	p.mu.Lock()
	c.answering, c.since = begins, time.Now()
	p.mu.Unlock()
}

// gate finds places for the connections of all classes.
type gate struct{ writers, readers, refusedWriters, refusedReaders places }

func newGate() *gate {
	return &gate{
		writers:        places{max: maxWriters, grace: idleGrace},
		readers:        places{max: MaxReaders, grace: idleGrace, stuck: true},
		refusedWriters: places{max: maxRefused},
		refusedReaders: places{max: maxRefused},
	}
}

// admit gives c a place of its class, or one to be refused in. False: there is not even that.
func (g *gate) admit(c *Conn, now time.Time) bool {
	served, refused := &g.readers, &g.refusedReaders
	if c.Caller.MayWrite() {
		served, refused = &g.writers, &g.refusedWriters
	}
	if served.admit(c, now) {
		return true
	}
	c.Caller.Refused = true
	return refused.admit(c, now)
}

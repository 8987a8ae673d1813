// Package events keeps what happened in a running instance, for programs and people who follow it:
// sessions that come up and are lost, handshakes, peers that move, MAC addresses that are learned
// and move, loops, and drops above a rate.
//
// Log is a ring of the newest Capacity events. Whoever reports an event never waits for anybody who
// reads; a reader that is too slow is told so by ErrGone, and takes a snapshot of what it follows
// (GET /v1/status, GET /v1/fdb) instead of what it missed. Observer makes events about peers and
// drops from what it is shown every second, so that following an instance costs its packet path
// nothing.
//
// The package knows nothing of sockets, JSON streams or access rights, which are
// internal/control's, and it writes no log. No event contains a secret.
package events

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Capacity is how many events a Log remembers. It is enough for ten thousand peers that lose and
// regain their sessions within seconds while a reader is disconnected; at 300 bytes an event, a
// full ring takes less than 3 MB.
const Capacity = 8192

// Kind is the kind of an event. Readers select events by it, so the names never change.
type Kind string

// The kinds of events.
const (
	Handshake  Kind = "handshake"   // a handshake with a peer was completed, or given up
	PeerState  Kind = "peer-state"  // the state of a peer changed
	Endpoint   Kind = "endpoint"    // a peer has another address
	Failover   Kind = "failover"    // a peer carries shared allowed IPs in place of another
	MACLearned Kind = "mac-learned" // the switch learned a MAC address
	MACMoved   Kind = "mac-moved"   // a MAC address is now behind another port
	MACGone    Kind = "mac-gone"    // the switch forgot a MAC address
	MACLost    Kind = "mac-lost"    // more MAC addresses changed than could be reported one by one
	Neighbor   Kind = "neighbor"    // an IP address is that of another host, or of none
	Conflict   Kind = "conflict"    // two hosts use one MAC or one IP address
	Loop       Kind = "loop"        // the loop guard blocked a port, or opened it again
	Switch     Kind = "switch"      // anything else that the switch reports
	Port       Kind = "port"        // the link of a device went up or down
	Drops      Kind = "drops"       // packets are dropped for one reason at a high rate
	Config     Kind = "config"      // the configuration was reloaded or changed
)

// Kinds lists all of them.
func Kinds() []Kind {
	return []Kind{
		Handshake, PeerState, Endpoint, Failover, MACLearned, MACMoved, MACGone, MACLost,
		Neighbor, Conflict, Loop, Switch, Port, Drops, Config,
	}
}

// Event is one thing that happened. Which fields are set depends on the kind; docs/tunctl.md has
// the table.
type Event struct {
	N    uint64    `json:"n"` // number: each event has that of the one before plus one
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`

	Peer      string `json:"peer,omitempty"`
	PublicKey string `json:"public_key,omitempty"` // of the peer
	// State is the new state or outcome, and Was what it replaces: a state, an address, or a port.
	State    string `json:"state,omitempty"`
	Was      string `json:"was,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	MAC      string `json:"mac,omitempty"`
	IP       string `json:"ip,omitempty"`
	VLAN     *int   `json:"vlan,omitempty"` // 0: untagged
	Port     string `json:"port,omitempty"` // name of a peer, or of the device
	// Reason is a drop reason, or why in words.
	Reason string  `json:"reason,omitempty"`
	Count  uint64  `json:"count,omitempty"`
	Rate   float64 `json:"rate,omitempty"` // of Count, per second
	// Message is one line for people. It may contain names that a peer chose.
	Message string `json:"message"`
}

// ErrGone reports that events a reader asked for are no longer there, or belong to another run of
// the instance.
var ErrGone = errors.New("these events are gone")

// Log is the ring of events. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex // guards the rest; held for a copy of at most maxBatch events
	ring  []Event    // grows up to Capacity; then the event number n is at n modulo Capacity
	first uint64     // number of the first event of this run
	next  uint64     // number of the next event
	more  chan struct{}
}

// maxBatch is how many events Next examines under the lock.
const maxBatch = 512

// New makes an empty log of a run that began at start. Numbers begin with the time of the start in
// microseconds and grow by one, so a number of one run is never one of another, and is exact in
// JSON (less than 2^53).
func New(start time.Time) *Log {
	first := uint64(max(start.UnixMicro(), 1))
	return &Log{first: first, next: first, more: make(chan struct{})}
}

// Add appends an event, whose number it assigns. It never waits for readers.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	e.N = l.next
	l.next++
	if len(l.ring) < Capacity {
		if len(l.ring) == cap(l.ring) { // append alone would make room for more than Capacity
			l.ring = slices.Grow(l.ring, min(max(len(l.ring), 64), Capacity-len(l.ring)))
		}
		l.ring = append(l.ring, e)
	} else {
		l.ring[l.slot(e.N)] = e
	}
	more := l.more
	l.more = make(chan struct{})
	l.mu.Unlock()
	close(more)
}

func (l *Log) slot(n uint64) int { return int((n - l.first) % Capacity) }

// Last returns the number of the newest event, or the number before the first if there is none.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// Oldest returns the number before the oldest event that is still there: whoever continues after it
// sees all that are remembered.
func (l *Log) Oldest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oldest()
}

func (l *Log) oldest() uint64 { return l.next - uint64(len(l.ring)) - 1 }

// Next waits for events after the given number and returns those of the given kinds (none: all)
// among the next few, with the number to continue after. The slice belongs to the caller. The error
// is ErrGone, or that of ctx.
func (l *Log) Next(ctx context.Context, after uint64, kinds []Kind) ([]Event, uint64, error) {
	for {
		l.mu.Lock()
		if after < l.oldest() || after >= l.next {
			l.mu.Unlock()
			return nil, after, ErrGone
		}
		var list []Event
		end := min(l.next-1, after+maxBatch)
		for ; after < end; after++ {
			e := &l.ring[l.slot(after+1)]
			if len(kinds) == 0 || slices.Contains(kinds, e.Kind) {
				list = append(list, *e)
			}
		}
		more, caughtUp := l.more, after == l.next-1
		l.mu.Unlock()
		switch {
		case len(list) > 0:
			return list, after, nil
		case !caughtUp:
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, after, ctx.Err()
		}
	}
}

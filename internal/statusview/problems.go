package statusview

import (
	"slices"
	"sync"
	"time"
)

// The kinds of problems that the daemon reports. Programs distinguish warnings by them, so they
// never change.
const (
	KindNetwork     = "network"      // the kernel's network configuration is not as wanted
	KindOffload     = "offload"      // a device or a socket works without offload
	KindRoutingLoop = "routing-loop" // a peer's endpoint is reached through the tunnel itself
	KindMetrics     = "metrics"      // the address of [metrics] cannot be used
	KindUnknownPeer = "unknown-peer" // a host asks for a session with a key that belongs to no peer
	KindAgent       = "agent"        // no agent can hand in peers
	KindWrongKey    = "wrong-key"    // a host asks for a session with another key than ours
	KindProgram     = "program"      // another version is installed than the one that runs
	KindTrial       = "trial"        // the former configuration comes back unless this is confirmed
	KindPreviousKey = "previous-key" // our previous key is still accepted
	KindClock       = "clock"        // a clock is wrong; internal/hostcheck reports it of this host
	KindResolver    = "resolver"     // this host does not ask the DNS servers of the configuration
	KindState       = "state"        // what is to outlive the process cannot be saved
)

// Problem is one reason for which an operator should look at an instance.
type Problem struct {
	Kind    string
	Subject string // the peer or device that it is about; "" for the instance
	Message string // one line
	Remedy  string // what to do about it; "" when Message says it
	Since   time.Time
}

// Problems holds the present problems of an instance. Their number is bounded by their subjects:
// there is at most one of each kind for each device or peer. The zero value holds none. It is safe
// for concurrent use.
type Problems struct {
	mu   sync.Mutex // guards what follows
	list map[subject]Problem
}

// subject distinguishes problems.
type subject struct{ kind, name string }

// Note adds a problem, replacing an earlier one of its kind about the same subject. A problem that
// is there already, with the same message, keeps the time at which it began.
func (p *Problems) Note(kind, name, message string) { p.NoteRemedy(kind, name, message, "") }

// NoteRemedy is Note of a problem whose message does not say what to do about it.
func (p *Problems) NoteRemedy(kind, name, message, remedy string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := subject{kind, name}
	if old, ok := p.list[key]; ok && old.Message == message {
		return
	}
	if p.list == nil {
		p.list = make(map[subject]Problem)
	}
	p.list[key] = Problem{Kind: kind, Subject: name, Message: message, Remedy: remedy, Since: time.Now()}
}

// Solved removes a problem.
func (p *Problems) Solved(kind, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.list, subject{kind, name})
}

// SolvedWhere removes the problems of a kind for whose subjects over returns true. over must not
// call Problems.
func (p *Problems) SolvedWhere(kind string, over func(name string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.list {
		if key.kind == kind && over(key.name) {
			delete(p.list, key)
		}
	}
}

// Renew replaces all problems of the given kinds by list, in which each has a different subject. A
// problem that was there already, with the same message, keeps the time at which it began.
func (p *Problems) Renew(list []Problem, kinds ...string) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.list
	p.list = make(map[subject]Problem, len(was))
	for key, one := range was {
		if !slices.Contains(kinds, key.kind) {
			p.list[key] = one
		}
	}
	for _, one := range list {
		key := subject{one.Kind, one.Subject}
		one.Since = now
		if old, ok := was[key]; ok && old.Message == one.Message {
			one.Since = old.Since
		}
		p.list[key] = one
	}
}

// Has reports whether there is a problem of a kind about a subject.
func (p *Problems) Has(kind, name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.list[subject{kind, name}]
	return ok
}

// All returns the problems in no particular order. The slice belongs to the caller.
func (p *Problems) All() []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Problem, 0, len(p.list))
	for _, one := range p.list {
		all = append(all, one)
	}
	return all
}

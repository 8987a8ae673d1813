package ethernet

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/tunnel/l2"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
)

const (
	// deadAttempts is the number of unanswered initiations after which a port goes down, so that
	// what was learned behind it may appear elsewhere: that takes 10 seconds.
	deadAttempts = 2
	// greetAfter is how long a peer with a session may be silent before it is sent something that
	// it has to answer.
	greetAfter = timers.KeepaliveTimeout
	// atOnce is a deadline that has always passed.
	atOnce boottime.Time = 1
)

// port is a peer from the point of view of the switch.
type port struct {
	id        l2.PortID
	peer      *peer.Peer
	config    l2.PortConfig // guarded by LAN.mu
	carries   atomic.Bool   // config.Ethernet
	fragments l2.FragmentIDs

	deadline timers.Deadline[port] // when to check the session
	// When the silent peer was last sent something to answer; used only by Run.
	greeted boottime.Time
	up      bool // what the switch was last told; used only by Run
}

// port returns the port with an id, or nil.
func (e *LAN) port(id l2.PortID) *port {
	if all := *e.ports.Load(); int(id) < len(all) {
		return all[id]
	}
	return nil
}

// peer returns the peer behind a port, or nil.
func (e *LAN) peer(id l2.PortID) *peer.Peer {
	if p := e.port(id); p != nil {
		return p.peer
	}
	return nil
}

// Carries reports whether p is configured to carry frames.
func (e *LAN) Carries(p *peer.Peer) bool {
	if e == nil {
		return false
	}
	port := e.port(l2.PortID(p.Port.Load()))
	return port != nil && port.carries.Load()
}

// ErrTooManyPorts is returned for a change that gives a port to more peers than the switch has
// ports.
var ErrTooManyPorts = errors.New("too many Ethernet peers")

// Configs adds the configuration of each port to all, by the key of its peer.
func (e *LAN) Configs(all map[keys.PublicKey]l2.PortConfig) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range *e.ports.Load() {
		if p != nil {
			all[p.peer.PublicKey()] = p.config
		}
	}
}

// Check returns the error for which the ports of all peers, by key, cannot be as given: there are
// too many, or a MAC is pinned twice.
func (e *LAN) Check(all map[keys.PublicKey]l2.PortConfig) error {
	if e == nil {
		return nil
	}
	carrying := 0
	pinned := make(map[l2.MAC]keys.PublicKey)
	for key, c := range all {
		if c.Ethernet {
			carrying++
		}
		for _, m := range c.MACs {
			if other, taken := pinned[m]; taken && other != key {
				return fmt.Errorf("MAC %v is pinned to both %s and %s", m, label(all[other], other), label(c, key))
			}
			pinned[m] = key
		}
	}
	if carrying > int(l2.MaxPortID) {
		return fmt.Errorf("%w: %d of at most %d", ErrTooManyPorts, carrying, l2.MaxPortID)
	}
	return nil
}

// Takes reports whether Check would accept a change of some ports while the others stay: those of
// set get a configuration and those of gone go, by key of the peer. Its cost depends on these
// alone. False means only that Check has to be asked.
func (e *LAN) Takes(set map[keys.PublicKey]l2.PortConfig, gone map[keys.PublicKey]bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	carrying := e.carrying
	pinned := make(map[l2.MAC]keys.PublicKey)
	for key, c := range set {
		if c.Ethernet {
			carrying++
		}
		for _, m := range c.MACs {
			if other, taken := pinned[m]; taken && other != key {
				return false
			}
			pinned[m] = key
			if other, taken := e.pinned[m]; taken && other != key && !gone[other] {
				return false
			}
		}
	}
	return carrying <= int(l2.MaxPortID)
}

// account replaces what is counted for the configuration of a port by what counts for the next;
// nil: the port goes. Callers hold mu.
func (e *LAN) account(p *port, next *l2.PortConfig) {
	key := p.peer.PublicKey()
	if p.config.Ethernet {
		e.carrying--
	}
	for _, m := range p.config.MACs {
		if e.pinned[m] == key {
			delete(e.pinned, m)
		}
	}
	if next == nil {
		return
	}
	if next.Ethernet {
		e.carrying++
	}
	for _, m := range next.MACs {
		e.pinned[m] = key
	}
}

func label(c l2.PortConfig, key keys.PublicKey) string {
	if c.Name != "" {
		return c.Name
	}
	return key.Short()
}

// SetPorts gives ports to peers, or new configurations to ports that they have, and frees the ports
// of removed peers. The switch sees one change; a port whose configuration stays the same is not
// touched. Whatever Check has accepted is not refused. If there are more peers than ports, those
// without Ethernet go without a port, which costs them nothing.
func (e *LAN) SetPorts(set map[*peer.Peer]l2.PortConfig, gone map[*peer.Peer]bool) error {
	if e == nil || len(set)+len(gone) == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	next := slices.Clone(*e.ports.Load())
	var removed []l2.PortID
	for p := range gone {
		if id := l2.PortID(p.Port.Swap(0)); id != l2.LocalPort {
			e.sessions.Remove(&next[id].deadline)
			e.account(next[id], nil)
			next[id] = nil
			removed = append(removed, id)
		}
	}
	changed := make(map[l2.PortID]l2.PortConfig, len(set))
	var fresh []*port
	for _, first := range []bool{true, false} { // those that carry frames come first
		for p, c := range set {
			if c.Ethernet != first || gone[p] {
				continue
			}
			id := l2.PortID(p.Port.Load())
			if id == l2.LocalPort {
				if id = e.newID(len(next)); id == l2.LocalPort {
					continue
				}
				made := &port{id: id, peer: p}
				made.deadline.Owner = made
				next = append(next, make([]*port, max(0, int(id)+1-len(next)))...)
				next[id] = made
				fresh = append(fresh, made)
			}
			e.account(next[id], &c)
			next[id].config = c
			next[id].carries.Store(c.Ethernet)
			changed[id] = c
		}
	}
	e.ports.Store(&next)
	for _, p := range fresh {
		p.peer.Port.Store(uint32(p.id))
	}
	err := e.sw.SetPorts(changed, removed)
	e.free = append(e.free, removed...)
	for id := range changed {
		e.sessions.Arm(&next[id].deadline, atOnce)
	}
	return err
}

// newID returns the id of a free port in a table of n, or LocalPort if there is none. Callers hold
// mu.
func (e *LAN) newID(n int) l2.PortID {
	if last := len(e.free) - 1; last >= 0 {
		id := e.free[last]
		e.free = e.free[:last]
		return id
	}
	if id := l2.PortID(max(n, 1)); id <= l2.MaxPortID {
		return id
	}
	return l2.LocalPort
}

// SessionChanged is called when a peer has gained or lost a session, or does not answer. It does
// not block.
func (e *LAN) SessionChanged(p *peer.Peer) {
	if e == nil {
		return
	}
	if port := e.port(l2.PortID(p.Port.Load())); port != nil {
		e.sessions.Arm(&port.deadline, atOnce)
	}
}

// followSessions checks the ports whose deadline has come, and returns the time until the next.
func (e *LAN) followSessions(now boottime.Time) time.Duration {
	for {
		port, wait := e.sessions.Next(now)
		if port == nil {
			return wait
		}
		if next := e.follow(port, now); next != 0 {
			e.sessions.Arm(&port.deadline, next)
		}
	}
}

// follow tells the switch whether the peer behind a port has a session, and asks for one if the
// peer is to carry frames: such a port is to be up whether or not there is traffic. It returns when
// to check again; 0 means when something happens.
func (e *LAN) follow(port *port, now boottime.Time) (next boottime.Time) {
	p := port.peer
	kp := p.Current()
	usable := kp != nil && kp.Usable(now)
	silent := p.LastReceived().Add(greetAfter) // until then lost handshakes do not mean a lost peer
	alive := usable && (now < silent || p.Unanswered() < deadAttempts) && !p.IsDead()
	if alive != port.up {
		port.up = alive
		e.sw.SetPortUp(port.id, alive, now)
	}
	switch {
	case alive:
		return min(kp.Established.Add(timers.RejectAfterTime), e.greet(port, now))
	case usable:
		return now.Add(l2.TickInterval) // anything received brings it back
	case !port.carries.Load():
		return 0
	}
	if p.Endpoint() != nil && !p.Timers.Handshaking() {
		e.env.WantHandshake(p, now)
	}
	return now.Add(timers.RekeyTimeout)
}

// greet sends something that needs an answer to a peer that has long been silent. The death of the
// peer is thereby noticed, and what was learned behind it forgotten, even if no host sends it
// anything. greet returns when to do so again.
func (e *LAN) greet(port *port, now boottime.Time) boottime.Time {
	last := max(port.peer.LastReceived(), port.greeted)
	if now.Sub(last) >= greetAfter {
		port.greeted, last = now, now
		e.sw.Greet(now, port.id)
	}
	return last.Add(greetAfter)
}

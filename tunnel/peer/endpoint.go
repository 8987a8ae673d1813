package peer

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/limit"
	"tund/tunnel/udp"
)

// Endpoint returns where the peer is; nil when that is not known. What it points to is not changed.
func (p *Peer) Endpoint() *udp.Endpoint { return p.endpoint.Load() }

// SetEndpoint moves the peer to ep if that is a change. It allocates only then. It reports whether
// the address changed, rather than only our own side of the path.
func (p *Peer) SetEndpoint(ep udp.Endpoint) (moved bool) {
	old := p.endpoint.Load()
	if old != nil && *old == ep {
		return false
	}
	moved = old == nil || old.Addr != ep.Addr
	e := ep // the copy escapes only on a change
	p.endpoint.Store(&e)
	return moved
}

// Roam moves the peer to where a datagram of this session came from, the newest of it so far, and
// reports whether that is another address. A session that is not the current one moves the peer
// only while the current one has not been heard.
func (p *Peer) Roam(kp *Keypair, from udp.Endpoint) (moved bool) {
	cur := p.current.Load()
	return (cur == kp || cur != nil && cur.heardAt.Load() == 0) && p.SetEndpoint(from)
}

// moves is what is known of the moves of a peer's endpoint.
type moves struct {
	at       atomic.Int64 // Unix time of the last in ns
	logEvery limit.Every  // messages about them; belongs to tunnel/peerlog
}

// NoteRoamed remembers when the peer moved, for status. It takes no lock. It returns what limits
// the messages about the peer's moves.
func (p *Peer) NoteRoamed(wall time.Time) *limit.Every {
	m := p.moves.Load()
	if m == nil {
		p.moves.CompareAndSwap(nil, new(moves))
		m = p.moves.Load()
	}
	m.at.Store(wall.UnixNano())
	return &m.logEvery
}

// ClearSource forgets the local address and interface used towards the peer, so that the kernel
// chooses anew.
func (p *Peer) ClearSource() {
	old := p.endpoint.Load()
	if old != nil && (old.Source.IsValid() || old.Ifindex != 0) {
		p.endpoint.CompareAndSwap(old, &udp.Endpoint{Addr: old.Addr})
	}
}

// SetCandidates says where to look for the peer, in order of preference. It moves to the first
// unless it has a usable session and an endpoint.
func (p *Peer) SetCandidates(list []netip.AddrPort, now boottime.Time) {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	p.Handshake.Candidates = append([]netip.AddrPort(nil), list...)
	p.Handshake.Candidate, p.Handshake.learned = 0, nil
	kp := p.current.Load()
	if len(list) > 0 && (p.endpoint.Load() == nil || kp == nil || !kp.Usable(now)) {
		p.SetEndpoint(udp.Endpoint{Addr: list[0]})
	}
}

// RenewZone returns to the zone with which the peer's link-local endpoint is configured. Where the
// peer was last heard from names its link by an index, which does not outlive the link; the name of
// an interface is looked up with each datagram.
func (p *Peer) RenewZone() {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	p.renewZone()
}

// renewZone is RenewZone. Callers hold Handshake.
func (p *Peer) renewZone() {
	ep := p.endpoint.Load()
	if ep == nil || ep.Addr.Addr().Zone() == "" {
		return
	}
	for _, c := range p.Handshake.Candidates {
		if c.Port() == ep.Addr.Port() && c.Addr().WithZone("") == ep.Addr.Addr().WithZone("") {
			p.SetEndpoint(udp.Endpoint{Addr: c})
			return
		}
	}
}

// NextCandidate moves the peer to the next endpoint where it may be when the last attempt at this
// one failed, and nothing has come from there since. Callers hold Handshake.
func (p *Peer) NextCandidate() {
	h := &p.Handshake
	if len(h.Candidates) == 0 {
		return
	}
	if p.endpoint.Load() == nil {
		p.SetEndpoint(udp.Endpoint{Addr: h.Candidates[h.Candidate%len(h.Candidates)]})
		return
	}
	if p.unanswered.Load() == 0 || p.lastReceived.Load() >= int64(p.Timers.InitiatedAt()) {
		return
	}
	p.renewZone()
	at := p.endpoint.Load().Addr
	if next := h.after(at); next != at {
		p.SetEndpoint(udp.Endpoint{Addr: next})
	}
}

// after returns where to look for the peer when it is not at the given endpoint. From one that it
// roamed to, that is the configured one which worked last, then the others in turn, and in the end
// the one that it roamed to again. There are candidates, and the lock is held.
func (h *Handshake) after(at netip.AddrPort) netip.AddrPort {
	n := h.Candidate
	if n >= len(h.Candidates) || h.Candidates[n] != at {
		n = slices.Index(h.Candidates, at)
	}
	switch {
	case n == len(h.Candidates)-1 && h.learned != nil:
		h.Candidate = 0
		return *h.learned
	case n >= 0:
		h.Candidate = n + 1
	case h.learned == nil || *h.learned != at:
		h.learned = &at
	}
	h.Candidate %= len(h.Candidates)
	return h.Candidates[h.Candidate]
}

package peer

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/limit"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// Endpoint returns where the peer is, or nil if that is not known. The value it points to never
// changes.
func (p *Peer) Endpoint() *udp.Endpoint { return p.endpoint.Load() }

// SetEndpoint moves the peer to ep unless it is there already, and allocates only in that case. It
// reports whether the peer's address changed, rather than only our end of the path.
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

// Roam moves the peer to the source of a datagram of this session, the newest so far, and reports
// whether that is another address. A session other than the current one moves the peer only as long
// as nothing has arrived under the current one, or if the peer uses it in place of that.
func (p *Peer) Roam(kp *Keypair, from udp.Endpoint, now boottime.Time) (moved bool) {
	cur, main := p.current.Load(), kp.Main()
	if cur == main {
		return p.SetEndpoint(from)
	}
	if cur != nil {
		heard := boottime.Time(cur.heardAt.Load())
		if heard == 0 || cur.crosses(main) && now.Sub(heard) >= staleAfter {
			return p.SetEndpoint(from)
		}
		p.noteStale(cur, main, from.Addr, now)
	}
	return false
}

// crosses reports whether the handshakes of two sessions crossed: each side began one of them, and
// may go on to use its own.
func (kp *Keypair) crosses(other *Keypair) bool {
	return kp.Session.Initiator() != other.Session.Initiator() &&
		kp.Established.Sub(other.Established).Abs() < timers.RekeyTimeout+timers.RekeyTimeoutJitterMax
}

// moves records the moves of a peer's endpoint.
type moves struct {
	at       atomic.Int64 // Unix time of the last move, in ns
	logEvery limit.Every  // messages about them; belongs to tunnel/peerlog
}

// NoteRoamed remembers when the peer moved, for status. It takes no lock. It returns the limiter of
// messages about the peer's moves.
func (p *Peer) NoteRoamed(wall time.Time) *limit.Every {
	i := p.incident()
	m := i.moves.Load()
	if m == nil {
		i.moves.CompareAndSwap(nil, new(moves))
		m = i.moves.Load()
	}
	m.at.Store(wall.UnixNano())
	return &m.logEvery
}

// ClearSource forgets the local address and interface used towards the peer, so that the kernel
// chooses again.
func (p *Peer) ClearSource() {
	old := p.endpoint.Load()
	if old != nil && (old.Source.IsValid() || old.Ifindex != 0) {
		p.endpoint.CompareAndSwap(old, &udp.Endpoint{Addr: old.Addr})
	}
}

// SetCandidates sets where to look for the peer, in order of preference. The peer moves to the
// first candidate unless it has a usable session and an endpoint.
func (p *Peer) SetCandidates(list []netip.AddrPort, now boottime.Time) {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	p.Handshake.candidates = append([]netip.AddrPort(nil), list...)
	if s := p.Handshake.state; s != nil {
		s.candidate, s.learned = 0, nil
	}
	kp := p.current.Load()
	if len(list) > 0 && (p.endpoint.Load() == nil || kp == nil || !kp.Usable(now)) {
		p.SetEndpoint(udp.Endpoint{Addr: list[0]})
	}
}

// RenewZone restores the zone with which the peer's link-local endpoint is configured. The address
// at which the peer was last heard names its link by index, which becomes invalid when the link is
// recreated, whereas an interface name is resolved for each datagram.
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
	for _, c := range p.Handshake.candidates {
		if c.Port() == ep.Addr.Port() && c.Addr().WithZone("") == ep.Addr.Addr().WithZone("") {
			p.SetEndpoint(udp.Endpoint{Addr: c})
			return
		}
	}
}

// NextCandidate moves the peer to its next possible endpoint if the last attempt at the present one
// failed and nothing has come from there since, or what we send is known not to arrive there.
// Callers hold Handshake.
func (p *Peer) NextCandidate() {
	h := &p.Handshake
	if len(h.candidates) == 0 {
		return
	}
	if p.endpoint.Load() == nil {
		p.SetEndpoint(udp.Endpoint{Addr: h.candidates[int(h.State().candidate)%len(h.candidates)]})
		return
	}
	if p.unanswered.Load() == 0 || p.lastReceived.Load() >= int64(p.Timers.InitiatedAt()) && !p.isDeaf() {
		return
	}
	p.renewZone()
	at := p.endpoint.Load().Addr
	if next := h.after(at); next != at {
		p.SetEndpoint(udp.Endpoint{Addr: next})
	}
}

// after returns where to look for the peer next if it is not at the given endpoint. After an
// endpoint learned by roaming comes the configured endpoint that worked last, then the others in
// turn, and finally the learned one again. There is at least one candidate, and the lock is held.
func (h *Handshake) after(at netip.AddrPort) netip.AddrPort {
	s := h.State()
	n := int(s.candidate)
	if n >= len(h.candidates) || h.candidates[n] != at {
		n = slices.Index(h.candidates, at)
	}
	switch {
	case n == len(h.candidates)-1 && s.learned != nil:
		s.candidate = 0
		return *s.learned
	case n >= 0:
		s.candidate = int32(n + 1)
	case s.learned == nil || *s.learned != at:
		s.learned = &at
	}
	s.candidate %= int32(len(h.candidates))
	return h.candidates[s.candidate]
}

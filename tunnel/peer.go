package tunnel

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/internal/boottime"
	"tund/tunnel/l2"
	"tund/tunnel/protocol"
	"tund/tunnel/udp"
)

// slot is a session together with what the engine knows of it: whose it is and since when.
type slot struct {
	session     *session.Session
	peer        *Peer
	established boottime.Time
	// lastLink is the kind of payload that came last: where the lane expects the next one to go.
	lastLink atomic.Uint32
	// heardAt is the boottime at which something authenticated last came under this session; 0: never.
	heardAt atomic.Int64
	// renewAfter is the age at which the initiator asks for the next session, and crossed tells that the peer began
	// one at the same time. Constant once it is current.
	renewAfter time.Duration
	crossed    bool
}

// usable reports whether the session may still send and receive by its age.
func (s *slot) usable(now boottime.Time) bool {
	return now.Sub(s.established) < protocol.RejectAfterTime
}

// Peer is one configured remote. It has no goroutine, timer, channel or packet buffer of its own.
type Peer struct {
	// Constant.
	key keys.PublicKey

	// Atomic: lanes read and write these without a lock.
	current       atomic.Pointer[slot]
	endpoint      atomic.Pointer[udp.Endpoint]
	timers        protocol.Timers
	rxBytes       atomic.Uint64 // datagrams, headers of WireGuard included, as wg(8) counts
	txBytes       atomic.Uint64
	rxPackets     atomic.Uint64 // authenticated datagrams
	txPackets     atomic.Uint64
	lastReceived  atomic.Int64  // boottime of the newest authenticated datagram; 0: never
	handshakeSent atomic.Int64  // boottime of the last initiation; 0: never
	wantHandshake atomic.Bool   // somebody asked for one and the timer loop has not seen it yet
	lastMinute    atomic.Bool   // the renewal on receive was asked for, once per session
	ethernet      atomic.Bool   // configured to carry frames
	port          atomic.Uint32 // at the switch; 0: none
	unanswered    atomic.Int32  // initiations in a row without a response
	fragments     l2.FragmentIDs
	controls      meter // of control messages
	removed       atomic.Bool
	greet         atomic.Bool // the persistent keepalive was just turned on

	sendFailure atomic.Pointer[sendFailure] // why the kernel last refused to send to the peer; nil: it did not

	loopedAt atomic.Int64 // boottime at which one of our datagrams to the peer last came back; 0: never

	staged stage

	armed  atomic.Int64 // the deadline the timer loop knows; 0: none. Written with timerLoop.mu held.
	heapAt int          // position in the timer heap, -1 when not in it; guarded by timerLoop.mu

	// mu guards what follows: the slow plane. It is held across key agreement, so no lane takes it but to
	// confirm a session that was just made.
	mu             sync.Mutex
	name           string
	psk            keys.PresharedKey
	remote         *noise.Remote   // nil until the first handshake needs it
	remoteFor      *noise.Identity // of ours that remote was made for
	macs           *noise.Macs     // nil until the first handshake needs it
	pending        *noise.Pending
	pendingIndex   uint32
	previous, next *slot
	lastTimestamp  noise.Timestamp
	lastInitiation boottime.Time // when we last accepted one
	handshakeWall  time.Time     // when the newest session was confirmed
	candidates     []netip.AddrPort
	candidate      int       // index of the candidate in use
	unconfirmed    int       // responses in a row that led to no session
	upSince        time.Time // when a session became usable after there was none
	roamedAt       time.Time // when an authenticated datagram last moved the endpoint
	lastError      string
	lastErrorAt    boottime.Time
	failingSince   time.Time // of the first failure since the last session
	count          HandshakeCounts
	note           note // what ICMP said last
	logged         limiter
}

// PublicKey returns the peer's identity.
func (p *Peer) PublicKey() keys.PublicKey { return p.key }

// display returns the name used in logs.
func (p *Peer) display() string {
	if p.name != "" {
		return p.name
	}
	return p.key.Short()
}

// setEndpoint moves the peer to ep if that is a change. It allocates only then.
func (p *Peer) setEndpoint(ep udp.Endpoint) (moved bool) {
	old := p.endpoint.Load()
	if old != nil && *old == ep {
		return false
	}
	moved = old == nil || old.Addr != ep.Addr
	e := ep // the copy escapes only on a change
	p.endpoint.Store(&e)
	return moved
}

// clearSource forgets the local address and interface used towards the peer, so that the kernel chooses anew.
func (p *Peer) clearSource() {
	old := p.endpoint.Load()
	if old != nil && (old.Source.IsValid() || old.Ifindex != 0) {
		p.endpoint.CompareAndSwap(old, &udp.Endpoint{Addr: old.Addr})
	}
}

// renewZone returns to the zone with which the peer's link-local endpoint is configured. Where the
// peer was last heard from names its link by an index, which does not outlive the link; the name of an
// interface is looked up with each datagram. Callers hold mu.
func (p *Peer) renewZone() {
	ep := p.endpoint.Load()
	if ep == nil || ep.Addr.Addr().Zone() == "" {
		return
	}
	for _, c := range p.candidates {
		if c.Port() == ep.Addr.Port() && c.Addr().WithZone("") == ep.Addr.Addr().WithZone("") {
			p.setEndpoint(udp.Endpoint{Addr: c})
			return
		}
	}
}

// fail remembers why the last attempt to reach the peer failed, in words. Callers hold mu.
func (p *Peer) fail(t *Tunnel, now boottime.Time, why string) {
	p.lastError, p.lastErrorAt = why, now
	if p.failingSince.IsZero() {
		p.failingSince = t.clock.Wall()
	}
}

// dropSessions forgets all sessions and the handshake under way. Callers hold mu.
func (p *Peer) dropSessions(t *Tunnel) {
	for _, s := range []*slot{p.previous, p.current.Load(), p.next} {
		if s != nil {
			p.retire(t, s)
			s.session.Zero()
		}
	}
	p.current.Store(nil)
	p.previous, p.next = nil, nil
	p.dropPending(t)
}

// dropPending forgets the handshake under way. Callers hold mu.
func (p *Peer) dropPending(t *Tunnel) {
	if p.pending != nil {
		t.index.release(p.pendingIndex)
		p.pending.Zero()
		p.pending = nil
	}
}

// retire takes a session out of use. Its keys are left to the collector rather than wiped here, because a lane
// may be in the middle of a train with it.
func (p *Peer) retire(t *Tunnel, s *slot) {
	if s != nil {
		t.index.release(s.session.LocalIndex())
	}
}

// begin puts a new session into its slot: the initiator uses it at once, the responder waits for the first
// message that proves that the initiator has it (kernel noise.c, add_new_keypair). Callers hold mu.
func (p *Peer) begin(t *Tunnel, s *slot) {
	t.index.assign(s.session.LocalIndex(), s)
	p.lastMinute.Store(false)
	p.wantHandshake.Store(false)
	if s.session.Initiator() {
		if p.next != nil { // the peer began one at the same time, and will use that
			p.retire(t, p.current.Load())
			p.retire(t, p.previous)
			p.previous, p.next = p.next, nil
			s.crossed, s.renewAfter = true, s.renewAfter+p.putOff(t)
		} else {
			p.replaced(t)
		}
		p.current.Store(s)
		return
	}
	p.retire(t, p.next)
	p.next = s
}

// replaced makes previous the one of the two sessions so far that the peer sends under, so that what is on its way
// still arrives: the current one, but after handshakes that crossed the other. Callers hold mu.
func (p *Peer) replaced(t *Tunnel) {
	cur, prev := p.current.Load(), p.previous
	if cur != nil && cur.crossed && prev != nil && prev.heardAt.Load() >= cur.heardAt.Load() {
		cur, prev = prev, cur
	}
	p.retire(t, prev)
	p.previous = cur
}

// putOff is by how much to put off the renewal of a session whose handshake crossed one of the peer's. Both sides
// are initiators then, and their renewals would cross for ever; each time packets are lost. So one goes first, and the
// other becomes a responder. A peer that does not think of it is as good as any: it goes at an age of its own.
func (p *Peer) putOff(t *Tunnel) time.Duration {
	const spread = protocol.RekeyTimeout / 2
	own := t.identity.Load().Public()
	if bytes.Compare(own[:], p.key[:]) > 0 {
		return spread + rand.N(spread)
	}
	return rand.N(spread)
}

// confirm makes the next session current when its first message came. It reports whether it did.
func (p *Peer) confirm(t *Tunnel, s *slot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != s {
		return false
	}
	p.replaced(t)
	p.next = nil
	p.current.Store(s)
	p.completed(t)
	return true
}

// completed notes that a handshake led to a usable session. Callers hold mu.
func (p *Peer) completed(t *Tunnel) {
	p.timers.HandshakeComplete()
	p.wantHandshake.Store(false) // a wish from between begin and here has been granted
	p.unanswered.Store(0)
	wall := t.clock.Wall()
	if wall.Sub(p.handshakeWall) >= protocol.RejectAfterTime {
		p.upSince = wall
	}
	p.handshakeWall, p.failingSince = wall, time.Time{}
	p.count.Completed++
	p.unconfirmed = 0
	p.lastError = ""
}

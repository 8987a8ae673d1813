// Package peer is what a tunnel knows of its peers: who they are and where, their sessions, what
// waits for one, what was counted, and why a peer cannot be reached. Index finds the owner of a
// datagram, Table the peer with a public key.
//
// It sends nothing, makes no keys and starts no goroutine: lanes (tunnel/lane) move packets and
// handshakes (tunnel/handshake) make sessions. Every method is safe for concurrent use.
//
// Locks: Peer's own lock is not exported. It is held for a few assignments at a time and never
// across key agreement, a system call or a log, so a lane may take it where it must, which is once
// for each session. Handshake.Mutex is the one that is held across key agreement; lanes never take
// it. Order: Handshake.Mutex, the peer's own, the index.
package peer

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// Peer is one configured remote. It has no goroutine, timer, channel or packet buffer of its own,
// and it is a compact record, of which there may be 10,000: what most peers never need is allocated
// when it is needed.
type Peer struct {
	// Synchronized in themselves.
	Timers    timers.Timers
	Deadline  timers.Deadline[Peer] // when the timers are to be looked at
	Staged    Staged                // what waits for a session
	Handshake Handshake             // belongs to tunnel/handshake
	Port      atomic.Uint32         // at the switch, 0: none; belongs to tunnel/ethernet
	LogEvery  limit.Every           // messages about the peer; belongs to tunnel/peerlog

	key keys.PublicKey // constant

	// Atomic: lanes read and write these without a lock.
	name         atomic.Pointer[string] // nil: none
	current      atomic.Pointer[Keypair]
	endpoint     atomic.Pointer[udp.Endpoint]
	rxBytes      atomic.Uint64 // datagrams, headers of WireGuard included, as wg(8) counts
	txBytes      atomic.Uint64
	rxPackets    atomic.Uint64 // authenticated datagrams
	txPackets    atomic.Uint64
	lastReceived atomic.Int64 // boottime of the newest authenticated datagram; 0: never
	unanswered   atomic.Int32 // initiations in a row without a response
	removed      atomic.Bool
	// Boottime since when the kernel refuses every send; 0: it does not.
	refusedSince atomic.Int64
	// Why the kernel last refused to send to the peer; nil: it did not.
	sendFailure atomic.Pointer[SendFailure]
	// Boottime at which one of our datagrams to the peer last came back; 0: never.
	loopedAt atomic.Int64
	drops    atomic.Pointer[drop.Counters]
	moves    atomic.Pointer[moves] // what is known of its moves; nil: it never moved

	mu             sync.Mutex // guards what follows, and the slow methods of Timers
	previous, next *Keypair
	handshakeWall  time.Time // when the newest session was confirmed
	// Handshakes in a row without a response, and nothing heard meanwhile.
	vain         int
	vainSince    boottime.Time // when the first of them began
	unconfirmed  int           // responses in a row that led to no session
	upSince      time.Time     // when a session became usable after there was none
	lastError    string
	lastErrorAt  boottime.Time
	callers      callers
	doubt        string        // what handshakes of late say against the peer, whatever its state
	doubtAt      boottime.Time // when
	failingSince time.Time     // of the first failure since the last session
	count        HandshakeCounts
	icmp         *icmpNote // what ICMP said last; nil: nothing
}

// Handshake is what handshakes with one peer need. Its lock is held across key agreement: no lane
// takes it.
type Handshake struct {
	sync.Mutex // guards the rest

	PresharedKey   keys.PresharedKey
	Pending        *noise.Pending // the initiation that waits for its response; nil: none
	PendingIndex   uint32
	LastTimestamp  noise.Timestamp // the newest of the peer
	LastSent       noise.Timestamp // the newest of ours
	LastInitiation boottime.Time   // when we last accepted one; 0: never
	Candidates     []netip.AddrPort
	Candidate      int // index of the candidate in use
	// Where it was last before its candidates were tried; nil: with them.
	learned *netip.AddrPort

	remote    *noise.Remote   // nil until the first handshake needs it
	remoteFor *noise.Identity // of ours that remote was made for
	macs      *noise.Macs     // nil until the first handshake needs it
}

// Remote returns the precomputed values for handshakes between id and the peer with the given key,
// making them on first use. The lock is held.
func (h *Handshake) Remote(id *noise.Identity, key keys.PublicKey) *noise.Remote {
	if h.remote == nil || h.remoteFor != id {
		h.remote, h.remoteFor = noise.NewRemote(id, key), id
		h.macs = noise.NewMacs(h.remote)
	}
	return h.remote
}

// Macs returns what makes the MACs of our messages; nil before Remote was first called. The lock is
// held.
func (h *Handshake) Macs() *noise.Macs { return h.macs }

// DropPending forgets the initiation under way. The lock is held.
func (h *Handshake) DropPending(ix *Index) {
	if h.Pending != nil {
		ix.Release(h.PendingIndex)
		h.Pending.Zero()
		h.Pending = nil
	}
}

// New returns a peer with which nothing has happened.
func New(key keys.PublicKey) *Peer {
	p := &Peer{key: key}
	p.Deadline.Owner = p
	return p
}

// PublicKey returns the peer's identity.
func (p *Peer) PublicKey() keys.PublicKey { return p.key }

// SetName gives the peer another name; empty: none.
func (p *Peer) SetName(name string) { p.name.Store(&name) }

// Name returns the configured name, empty when there is none.
func (p *Peer) Name() string {
	if name := p.name.Load(); name != nil {
		return *name
	}
	return ""
}

// DisplayName returns what people are shown: the name, or the beginning of the key.
func (p *Peer) DisplayName() string {
	if name := p.Name(); name != "" {
		return name
	}
	return p.key.Short()
}

// SetPresharedKey takes effect with the next handshake.
func (p *Peer) SetPresharedKey(key keys.PresharedKey) {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	p.Handshake.PresharedKey = key
}

// Removed reports whether the peer is not configured any more.
func (p *Peer) Removed() bool { return p.removed.Load() }

// Remove makes the peer forget its sessions and endpoint for good. Who holds it still finishes what
// he is doing.
func (p *Peer) Remove(ix *Index) {
	p.removed.Store(true)
	p.DropSessions(ix)
	p.StopTimers()
	p.endpoint.Store(nil)
}

// StopTimers forgets all timers, as when the device goes down.
func (p *Peer) StopTimers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Timers.Stop()
}

// SetKeepalive sets the interval of the persistent keepalive, 0 for none, and reports whether it
// was off before and is on now.
func (p *Peer) SetKeepalive(interval time.Duration, now boottime.Time) (turnedOn bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	turnedOn = p.Timers.Persistent() == 0 && interval != 0
	p.Timers.SetPersistent(interval, now)
	return turnedOn
}

// Due returns what is due for the peer, and whether an initiation has just gone without a response
// for too long.
func (p *Peer) Due(now boottime.Time) (due timers.Actions, unanswered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubted(now) {
		p.Timers.WantHandshake(now)
	}
	waiting := p.Timers.Handshaking()
	due = p.Timers.Due(now)
	if waiting && !p.Timers.Handshaking() {
		p.count.Failed++
		p.unanswered.Add(1)
		p.inVain()
		unanswered = true
	}
	return due, unanswered
}

// NextDeadline returns when Due is to be asked again, and false when nothing is pending.
func (p *Peer) NextDeadline() (boottime.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, ok := p.Timers.Next()
	if p.icmp != nil && p.icmp.suspect != 0 {
		if ask := p.askAt(); !ok || ask < next {
			next, ok = ask, true
		}
	}
	return next, ok
}

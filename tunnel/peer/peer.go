// Package peer holds what a tunnel knows about its peers: their identities and endpoints, their
// sessions, the packets that wait for a session, their counters, and why a peer cannot be reached.
// Index finds the owner of a datagram, Table the peer with a public key.
//
// It sends nothing, makes no keys and starts no goroutine: lanes (tunnel/lane) move packets and
// handshakes (tunnel/handshake) make sessions. Every method is safe for concurrent use.
//
// Locks: Peer's own lock is not exported. It is held for a few assignments at a time and never
// across key agreement, a system call or a log message, so a lane may take it where it must, which
// is once for each session. Handshake.Mutex is held across key agreement; lanes never take it. Lock
// order: Handshake.Mutex, the peer's own, the index.
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
	"tund/tunnel/staged"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// Peer is one configured remote. It has no goroutine, timer, channel or packet buffer of its own.
// The record is compact, because there may be 10,000 of them: what packets need is in it, and what
// most peers never need, or only with their first handshake, is allocated on demand.
type Peer struct {
	// These fields synchronize themselves.
	Timers    timers.Timers
	Deadline  timers.Deadline[Peer] // when the timers are to be looked at
	Staged    staged.Queue          // packets that wait for a session
	Handshake Handshake             // belongs to tunnel/handshake
	Extension Extension             // belongs to tunnel/extension
	Port      atomic.Uint32         // port at the switch, 0: none; belongs to tunnel/ethernet

	priority atomic.Int32 // among peers with the same allowed IPs

	key keys.PublicKey // constant

	// Atomic fields, which lanes read and write without a lock.
	name         atomic.Pointer[string] // nil: none
	current      atomic.Pointer[Keypair]
	endpoint     atomic.Pointer[udp.Endpoint]
	rxBytes      atomic.Uint64 // of datagrams, including WireGuard's headers, as wg(8) counts
	txBytes      atomic.Uint64
	rxPackets    atomic.Uint64 // authenticated datagrams
	txPackets    atomic.Uint64
	lastReceived atomic.Int64 // boottime of the newest authenticated datagram; 0: never
	// Boottime since which the kernel has refused every send; 0: it does not.
	refusedSince atomic.Int64
	// The data sessions in which packets leave; nil: they leave in the current session.
	data        atomic.Pointer[DataSessions]
	lanes       atomic.Pointer[[]laneCounts] // by lane; nil: the peer has one
	drops       atomic.Pointer[drop.Counters]
	incidents   atomic.Pointer[incidents] // nil: there were none
	postQuantum atomic.Uint32             // datasession.PostQuantum
	unanswered  atomic.Int32              // initiations in a row without a response
	removed     atomic.Bool

	mu      sync.Mutex // guards what follows, and the slow methods of Timers
	stopped bool       // it has said goodbye, and there has been no session since
	// Handshakes in a row without a response, while nothing was heard either.
	vain        int32
	unconfirmed int32 // responses in a row that led to no session
	next        *Keypair
	former      [2]*Keypair  // see keep
	faults      *faults      // why it may be down; nil: nothing is known against it
	past        *past        // of its handshakes; nil: there was none
	dataTrouble *dataTrouble // why there are no data sessions; nil: there are, or there may be
}

// incidents are what happens with few peers. The first makes the record.
type incidents struct {
	logEvery limit.Every // messages about the peer; belongs to tunnel/peerlog
	// Boottime at which the peer last asked to exchange frames, where there is no [tap]; 0: never.
	wantsFrames atomic.Int64
	// Why the kernel last refused to send to the peer; nil: it never did.
	sendFailure atomic.Pointer[SendFailure]
	// Boottime at which one of our datagrams to the peer last came back to us; 0: never.
	loopedAt atomic.Int64
	moves    atomic.Pointer[moves] // history of its moves; nil: it never moved

	// What the peer does that it should not.
	twin    atomic.Pointer[twin]
	foreign atomic.Pointer[foreignSource] // of a packet that was dropped
	refusal atomic.Pointer[refusal]       // what the peer drops of ours

	icmp icmpNote // last ICMP message; guarded by the peer's lock
}

// incident returns where to note an incident.
func (p *Peer) incident() *incidents {
	if p.incidents.Load() == nil {
		p.incidents.CompareAndSwap(nil, new(incidents))
	}
	return p.incidents.Load()
}

// LogEvery limits the messages about the peer. It belongs to tunnel/peerlog.
func (p *Peer) LogEvery() *limit.Every { return &p.incident().logEvery }

// faults is what is known against a peer since it last had a new session.
type faults struct {
	vainSince boottime.Time // when the first of the handshakes in vain began
	// When the first of several echo requests was sent that had no answer; 0: none.
	deadSince boottime.Time
	deadWhy   string // what that looks like, in words
	deaf      bool   // things come from the peer all the same, and prove nothing
	// When the first of our responses was sent that have led to no session.
	unheardSince boottime.Time
	lastError    string
	lastErrorAt  boottime.Time
	doubt        string        // what recent handshakes suggest against the peer, in any state
	doubtAt      boottime.Time // when
}

// blame returns where to note a fault. Callers hold mu.
func (p *Peer) blame() *faults {
	if p.faults == nil {
		p.faults = new(faults)
	}
	return p.faults
}

// blamed returns a copy of what is known against the peer. Callers hold mu.
func (p *Peer) blamed() faults {
	if p.faults == nil {
		return faults{}
	}
	return *p.faults
}

// past is what is remembered of the handshakes with a peer.
type past struct {
	callers       callers
	count         HandshakeCounts
	handshakeWall boottime.Wall // when the newest session was confirmed
	upSince       boottime.Wall // when a session became usable after there was none
	failingSince  boottime.Wall // of the first failure since the last session
	mute          mute
}

// history returns where to note a handshake. Callers hold mu.
func (p *Peer) history() *past {
	if p.past == nil {
		p.past = new(past)
	}
	return p.past
}

// known returns a copy of what is remembered. Callers hold mu.
func (p *Peer) known() past {
	if p.past == nil {
		return past{}
	}
	return *p.past
}

// Handshake is what handshakes with one peer need. Its lock is held across key agreement, so no
// lane takes it.
type Handshake struct {
	sync.Mutex // guards the rest

	psk        *keys.PresharedKey // nil: none
	candidates []netip.AddrPort
	state      *HandshakeState // nil until the first handshake
}

// HandshakeState is what is known from handshakes with one peer. The lock of its Handshake is held
// to read it or to write to it.
type HandshakeState struct {
	Pending        *noise.Pending // the initiation that waits for its response; nil: none
	PendingIndex   uint32
	candidate      int32           // index of the candidate in use
	PendingAs      *noise.Identity // our identity in that initiation
	KnownAs        *noise.Identity // our identity in the last that succeeded; nil: none has
	LastTimestamp  noise.Timestamp // newest timestamp of the peer
	LastSent       noise.Timestamp // newest timestamp that we sent
	LastInitiation boottime.Time   // when we last accepted an initiation; 0: never
	// Where the peer was last before its candidates were tried; nil: it was at a candidate.
	learned *netip.AddrPort

	remote    *noise.Remote   // nil until the first handshake needs it
	remoteFor *noise.Identity // our identity for which remote was computed
	macs      *noise.Macs     // nil until the first handshake needs it
}

// State returns what is known from handshakes, to be written to. The lock is held.
func (h *Handshake) State() *HandshakeState {
	if h.state == nil {
		h.state = new(HandshakeState)
	}
	return h.state
}

// PresharedKey returns the preshared key, which is zero if there is none. The lock is held.
func (h *Handshake) PresharedKey() keys.PresharedKey {
	if h.psk == nil {
		return keys.PresharedKey{}
	}
	return *h.psk
}

// Macs returns what computes the MACs of our messages, or nil before the first call of
// HandshakeState.Remote. The lock is held.
func (h *Handshake) Macs() *noise.Macs {
	if h.state == nil {
		return nil
	}
	return h.state.macs
}

// DropPending forgets the initiation in progress. The lock is held.
func (h *Handshake) DropPending(ix *Index) {
	if s := h.state; s != nil && s.Pending != nil {
		ix.Release(s.PendingIndex)
		s.Pending.Zero()
		s.Pending = nil
	}
}

// Remote returns the precomputed values for handshakes between id and the peer with the given key,
// computing them on first use.
func (s *HandshakeState) Remote(id *noise.Identity, key keys.PublicKey) *noise.Remote {
	if s.remote == nil || s.remoteFor != id {
		s.remote, s.remoteFor = noise.NewRemote(id, key), id
		s.macs = noise.NewMacs(s.remote)
	}
	return s.remote
}

// New returns a peer without any history.
func New(key keys.PublicKey) *Peer {
	p := &Peer{key: key}
	p.Deadline.Owner = p
	return p
}

// PublicKey returns the peer's identity.
func (p *Peer) PublicKey() keys.PublicKey { return p.key }

// SetName changes the peer's name; empty: none.
func (p *Peer) SetName(name string) { p.name.Store(&name) }

// Name returns the configured name, or "" if there is none.
func (p *Peer) Name() string {
	if name := p.name.Load(); name != nil {
		return *name
	}
	return ""
}

// DisplayName returns the name for people: the configured name, or the beginning of the key.
func (p *Peer) DisplayName() string {
	if name := p.Name(); name != "" {
		return name
	}
	return p.key.Short()
}

// SetPriority sets the priority of the peer among those with the same allowed IPs.
func (p *Peer) SetPriority(priority int) { p.priority.Store(int32(priority)) }

// Priority returns the priority of the peer among those with the same allowed IPs: the highest is
// preferred.
func (p *Peer) Priority() int { return int(p.priority.Load()) }

// SetPresharedKey sets the preshared key, starting with the next handshake.
func (p *Peer) SetPresharedKey(key keys.PresharedKey) {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	p.Handshake.psk = nil
	if !key.IsZero() {
		k := key
		p.Handshake.psk = &k
	}
}

// Removed reports whether the peer is no longer configured.
func (p *Peer) Removed() bool { return p.removed.Load() }

// Remove makes the peer forget its sessions and endpoint permanently. Code that still holds the
// peer may finish what it is doing.
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

// SetKeepalive sets the interval of the persistent keepalive, 0 for none, and reports whether that
// turned it on.
func (p *Peer) SetKeepalive(interval time.Duration, now boottime.Time) (turnedOn bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	turnedOn = p.Timers.Persistent() == 0 && interval != 0
	p.Timers.SetPersistent(interval, now)
	return turnedOn
}

// Due returns the actions that are due for the peer, and whether an initiation has just remained
// without a response for too long.
func (p *Peer) Due(now boottime.Time) (due timers.Actions, unanswered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubted(now) {
		p.Timers.WantHandshake(now)
	}
	waiting := p.Timers.Handshaking()
	due = p.Timers.Due(now)
	if due&timers.Unanswered != 0 {
		p.noData(now)
	}
	if waiting && !p.Timers.Handshaking() {
		p.history().count.Failed++
		p.unanswered.Add(1)
		p.inVain()
		unanswered = true
	}
	return due, unanswered
}

// NextDeadline returns when Due is to be called again, and false if nothing is pending.
func (p *Peer) NextDeadline() (boottime.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, ok := p.Timers.Next()
	if note := p.icmp(); note != nil && note.suspect != 0 {
		if ask := p.askAt(note); !ok || ask < next {
			next, ok = ask, true
		}
	}
	return next, ok
}

// Package handshake makes sessions: it answers initiations, starts handshakes when the timers say
// so, keeps cookies, and defends itself against floods. Lanes pass messages in through an Intake
// and never wait for it. The package hands the sessions it makes to the peer (tunnel/peer).
//
// A few workers answer messages from a bounded queue, and one goroutine runs the timers of all
// peers. Each sends through a batch of its own, so none of them waits for another's send, and no
// lock is held while sending. A peer's Handshake lock is held across key agreement; only this
// package and the peer's configuration take it.
//
// It moves no packets except those that waited for a session, and routes nothing. Sources:
// WireGuard whitepaper §5, §6; the kernel's drivers/net/wireguard (receive.c, send.c,
// ratelimiter.c).
package handshake

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/internal/boottime"
	"tund/internal/watchdog"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// Handshakes is what a tunnel needs to make sessions. It is safe for concurrent use.
type Handshakes struct {
	Load Load // raised while the queue is long

	env        *lane.Env
	peers      *peer.Table
	timestamps Timestamps // nil: forgotten together with the peer

	identities  atomic.Pointer[identities]
	queue       *queue
	icmp        *icmpQueue
	strangers   strangers
	wrongKeys   wrongKeys
	cookiesSent atomic.Uint64
	timersWake  chan struct{} // capacity 1: the earliest deadline moved forward
}

// identity is our key pair and the values derived from it.
type identity struct {
	private keys.PrivateKey
	noise   *noise.Identity
	cookies *noise.CookieChecker
}

func newIdentity(key keys.PrivateKey) *identity {
	id := noise.NewIdentity(key)
	return &identity{private: key, noise: id, cookies: noise.NewCookieChecker(id)}
}

// identities are those under which peers know us: our own and, while they change over, the one that
// we had before.
type identities struct{ current, previous *identity } // previous is nil when there is none

// holds reports whether an identity is one of ours.
func (i *identities) holds(id *noise.Identity) bool {
	return i.current.noise == id || i.previous != nil && i.previous.noise == id
}

// Timestamps remembers the newest timestamps accepted from each peer and sent to it beyond the
// lifetime of a tunnel, so that initiations recorded before the tunnel began are not taken for
// fresh ones, and ours are taken for fresh although the clock went back. Its methods must not
// block, and several goroutines call them.
type Timestamps interface {
	// Last returns the newest timestamp accepted from a peer, or zero if none is known.
	Last(keys.PublicKey) noise.Timestamp
	// Accepted is called when a newer timestamp was accepted.
	Accepted(keys.PublicKey, noise.Timestamp)
	// LastSent returns the newest timestamp sent to a peer that is known, or zero. Later ones may
	// have been sent for up to SentReserve.
	LastSent(keys.PublicKey) noise.Timestamp
	// Sent is called when a timestamp is about to be sent.
	Sent(keys.PublicKey, noise.Timestamp)
}

// SentReserve is how long a timestamp may have been sent before it is remembered: longer than the
// longest pause between two savings of the timestamps of 10,000 peers.
const SentReserve = 5 * time.Minute

// New returns the handshakes of a tunnel with the given peers, and sets the fields of env that are
// theirs. Without timestamps, a peer's timestamp is forgotten together with the peer. New starts
// nothing.
func New(env *lane.Env, peers *peer.Table, key keys.PrivateKey, timestamps Timestamps) *Handshakes {
	h := &Handshakes{env: env, peers: peers, timestamps: timestamps, queue: newQueue(), icmp: newICMPQueue(), timersWake: make(chan struct{}, 1)}
	h.SetIdentity(key, keys.PrivateKey{})
	env.Deadlines = timers.NewHeap[peer.Peer](h.wakeTimers)
	env.NewHandshakes = func() lane.Handshakes { return &intake{h: h} }
	return h
}

// SetIdentity sets our key pair, and one under which peers may still know us; a zero key: none. The
// caller has to end what was made under others (Holds).
func (h *Handshakes) SetIdentity(key, previous keys.PrivateKey) {
	old := h.identities.Load()
	// An identity that stays is the same object, for which peers have values computed.
	find := func(key keys.PrivateKey) *identity {
		if old != nil && old.current.private.Equal(key) {
			return old.current
		}
		if old != nil && old.previous != nil && old.previous.private.Equal(key) {
			return old.previous
		}
		return newIdentity(key)
	}
	next := &identities{current: find(key)}
	if !previous.IsZero() && !previous.Equal(key) {
		next.previous = find(previous)
	}
	h.identities.Store(next)
}

// Holds reports whether a public key is ours, at present or still.
func (h *Handshakes) Holds(key keys.PublicKey) bool {
	ids := h.identities.Load()
	return ids.current.noise.Public() == key || ids.previous != nil && ids.previous.noise.Public() == key
}

// PrivateKey returns our private key.
func (h *Handshakes) PrivateKey() keys.PrivateKey { return h.identities.Load().current.private }

// PublicKey returns our public key, or zero if there is no private key.
func (h *Handshakes) PublicKey() keys.PublicKey { return h.identities.Load().current.noise.Public() }

// PreviousKey returns the public key that we had before and still answer to, or zero.
func (h *Handshakes) PreviousKey() keys.PublicKey {
	if previous := h.identities.Load().previous; previous != nil {
		return previous.noise.Public()
	}
	return keys.PublicKey{}
}

// Waiting returns how many messages wait for a worker.
func (h *Handshakes) Waiting() int { return len(h.queue.messages) + len(h.queue.answers) }

// CookiesSent returns how many cookie replies have been sent.
func (h *Handshakes) CookiesSent() uint64 { return h.cookiesSent.Load() }

// Worker handles messages, or runs the timers, on one goroutine.
type Worker struct {
	*Handshakes
	progress *watchdog.Progress
	out      *lane.Batch
}

// NewWorker returns a worker that sends through the socket of a lane.
func (h *Handshakes) NewWorker(l *lane.Lane, progress *watchdog.Progress) *Worker {
	return &Worker{Handshakes: h, progress: progress, out: lane.NewBatch(h.env, l, lane.MaxDatagram).MayWait()}
}

// Run handles queued handshake messages and ICMP reports until the tunnel ends.
func (w *Worker) Run() {
	for {
		w.progress.Idle()
		select {
		case <-w.env.Stop:
			return
		case m := <-w.queue.answers:
			w.handle(&m)
		case m := <-w.queue.messages:
			w.handle(&m)
		case h := <-w.icmp.reports:
			w.progress.Busy()
			w.env.Guard("ICMP", func() { w.reported(h) })
		}
	}
}

// handle handles one message, and recovers from a panic.
func (w *Worker) handle(m *message) {
	w.progress.Busy()
	w.env.Guard("handshake worker", func() { w.message(m) })
}

// moved moves p to the source address of a handshake message.
func (w *Worker) moved(p *peer.Peer, from *udp.Endpoint) {
	if p.SetEndpoint(*from) {
		p.NoteRoamed(w.env.Clock.Wall())
	}
}

// event describes the given message as an event of its peer.
func (w *Worker) event(now boottime.Time, size int) peer.Event {
	return peer.Event{Now: now, Wall: w.env.Clock.Wall(), Size: size, Delay: rand.N(timers.RekeyTimeoutJitterMax)}
}

// Package handshake makes sessions: it answers initiations, begins them when the timers say so,
// keeps cookies, and defends itself against floods. Lanes hand messages in through an Intake and
// never wait for it; the sessions it makes it gives to the peer (tunnel/peer).
//
// A few workers answer messages from a bounded queue, and one goroutine runs the timers of all
// peers. Each sends through a batch of its own, so that none of them waits for the send of another,
// and no lock is held while sending. A peer's Handshake lock is held across key agreement, by
// nobody else's wish than this package's and its configuration's.
//
// It moves no packets but those that waited for a session, and routes nothing. Sources: WireGuard
// whitepaper §5, §6; the kernel's drivers/net/wireguard (receive.c, send.c, ratelimiter.c).
package handshake

import (
	"math/rand/v2"
	"sync/atomic"

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
	timestamps Timestamps // nil: they are forgotten with the peer

	identity    atomic.Pointer[identity]
	queue       *queue
	icmp        *icmpQueue
	strangers   strangers
	wrongKeys   wrongKeys
	cookiesSent atomic.Uint64
	timersWake  chan struct{} // capacity 1: the earliest deadline moved forward
}

// identity is our key pair and what is derived from it.
type identity struct {
	private keys.PrivateKey
	noise   *noise.Identity
	cookies *noise.CookieChecker
}

// Timestamps remembers the newest timestamp that was accepted from each peer beyond the life of a
// tunnel, so that initiations which were recorded before it began are not taken for fresh ones. It
// must not wait, and is called by several goroutines.
type Timestamps interface {
	// Last returns the newest timestamp accepted from a peer; zero when none is known.
	Last(keys.PublicKey) noise.Timestamp
	// Accepted is called when a newer one was.
	Accepted(keys.PublicKey, noise.Timestamp)
}

// New returns the handshakes of a tunnel with the given peers, and sets what env needs of them.
// Without timestamps, those of a peer are forgotten with it. Nothing runs yet.
func New(env *lane.Env, peers *peer.Table, key keys.PrivateKey, timestamps Timestamps) *Handshakes {
	h := &Handshakes{env: env, peers: peers, timestamps: timestamps, queue: newQueue(), icmp: newICMPQueue(), timersWake: make(chan struct{}, 1)}
	h.SetIdentity(key)
	env.Deadlines = timers.NewHeap[peer.Peer](h.wakeTimers)
	env.NewHandshakes = func() lane.Handshakes { return &intake{h: h} }
	return h
}

// SetIdentity replaces our key pair. The sessions made under the one before are for the caller to
// end.
func (h *Handshakes) SetIdentity(key keys.PrivateKey) {
	id := noise.NewIdentity(key)
	h.identity.Store(&identity{private: key, noise: id, cookies: noise.NewCookieChecker(id)})
}

// PrivateKey returns our private key.
func (h *Handshakes) PrivateKey() keys.PrivateKey { return h.identity.Load().private }

// PublicKey returns our public key; zero when there is no private key.
func (h *Handshakes) PublicKey() keys.PublicKey { return h.identity.Load().noise.Public() }

// Waiting returns how many messages wait for a worker.
func (h *Handshakes) Waiting() int { return len(h.queue.messages) + len(h.queue.answers) }

// CookiesSent returns how many cookie replies have been sent.
func (h *Handshakes) CookiesSent() uint64 { return h.cookiesSent.Load() }

// Worker handles messages, or the timers, on one goroutine.
type Worker struct {
	*Handshakes
	progress *watchdog.Progress
	out      *lane.Batch
}

// NewWorker returns a worker that sends through the socket of a lane.
func (h *Handshakes) NewWorker(l *lane.Lane, progress *watchdog.Progress) *Worker {
	return &Worker{Handshakes: h, progress: progress, out: lane.NewBatch(h.env, l, lane.MaxDatagram)}
}

// Run handles queued handshake messages and what ICMP said until the tunnel ends.
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
		case h := <-w.icmp.hints:
			w.progress.Busy()
			w.env.Guard("ICMP", func() { w.hinted(h) })
		}
	}
}

// handle handles one message, and outlives a panic.
func (w *Worker) handle(m *message) {
	w.progress.Busy()
	w.env.Guard("handshake worker", func() { w.message(m) })
}

// moved moves p to where a handshake message came from.
func (w *Worker) moved(p *peer.Peer, from *udp.Endpoint) {
	if p.SetEndpoint(*from) {
		p.NoteRoamed(w.env.Clock.Wall())
	}
}

// event is what the given message brings a peer.
func (w *Worker) event(now boottime.Time, size int) peer.Event {
	return peer.Event{Now: now, Wall: w.env.Clock.Wall(), Size: size, Delay: rand.N(timers.RekeyTimeoutJitterMax)}
}

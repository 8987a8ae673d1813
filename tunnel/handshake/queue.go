package handshake

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/udp"
)

// Bounds on what waits for the workers.
const (
	// queueLength is the number of initiations that wait for a worker, and answersLength that of
	// responses and cookie replies to our initiations.
	queueLength   = 1024
	answersLength = 128
	// UnderLoadDepth is the queue length at which proof of address is demanded, as in the kernel
	// (MAX_QUEUED_INCOMING_HANDSHAKES / 8), and keepUnderLoad is how long the demand lasts
	// afterwards. The workers need 25 ms for that many, so a burst that they can keep up with does
	// not cost newcomers a second round trip.
	UnderLoadDepth = queueLength / 2
	keepUnderLoad  = time.Second
)

// queue connects the lanes to the workers and contains the defence against floods. Anybody who
// knows our public key can make initiations that have to be queued, whereas answers need an index
// that we chose. Answers therefore wait in a queue of their own: a flood of initiations cannot keep
// us from reaching a peer.
type queue struct {
	messages chan message // initiations
	answers  chan message
	recent   *recentInitiations
	source   sourceLimiter
	cookies  cookieBudget
}

// message is a copy of a message whose mac1 has been checked.
type message struct {
	kind byte
	data [wire.InitiationSize]byte
	size int
	from udp.Endpoint
	at   boottime.Time // when it was received
	to   *identity     // the one of ours for which the message was made; nil in a cookie reply
}

func newQueue() *queue {
	return &queue{
		messages: make(chan message, queueLength), answers: make(chan message, answersLength), recent: newRecentInitiations(),
		cookies: cookieBudget{seed: maphash.MakeSeed()},
	}
}

// put queues a message; it never blocks.
func (q *queue) put(load *Load, kind byte, d []byte, from udp.Endpoint, to *identity, now boottime.Time) drop.Reason {
	if kind == wire.TypeInitiation && q.recent.add(wire.MAC1(d), now) {
		return drop.DuplicateInit
	}
	m := message{kind: kind, size: len(d), from: from, at: now, to: to}
	copy(m.data[:], d)
	if len(q.messages) >= UnderLoadDepth {
		load.Raise(now.Add(keepUnderLoad))
	}
	line := q.messages
	if kind != wire.TypeInitiation {
		line = q.answers
	}
	select {
	case line <- m:
		return drop.None
	default:
		return drop.HandshakeQueue
	}
}

// Load tells whether handshakes arrive faster than they can be answered, so that initiators have to
// prove their address. The zero Load is no load. It is safe for concurrent use.
type Load struct{ until atomic.Int64 }

// Raise declares load until the given time.
func (l *Load) Raise(until boottime.Time) { l.until.Store(int64(until)) }

// Under reports whether there is load.
func (l *Load) Under(now boottime.Time) bool { return int64(now) < l.until.Load() }

// intake is the entry point for one receive loop (lane.Handshakes).
type intake struct {
	h        *Handshakes
	ids      *identities // for which the checkers were made
	current  *noise.MAC1Checker
	previous *noise.MAC1Checker // nil if there is no previous identity
}

// Message makes the inexpensive checks of a handshake message and queues it for the workers.
// Garbage is rejected here: it never fills the queue, so it cannot make us appear under load.
func (i *intake) Message(kind byte, d []byte, from *udp.Endpoint, now boottime.Time) drop.Reason {
	to, reason := i.check(kind, d, from, now)
	if reason == drop.None {
		reason = i.h.queue.put(&i.h.Load, kind, d, *from, to, now)
	}
	return reason
}

func (i *intake) check(kind byte, d []byte, from *udp.Endpoint, now boottime.Time) (to *identity, reason drop.Reason) {
	switch kind {
	case wire.TypeInitiation:
		if to = i.addressee(d); to == nil {
			i.h.wrongKeys.met(from.Addr, now)
			i.h.env.Log.WrongKey(now, from.Addr)
			return nil, drop.BadMAC1
		}
	case wire.TypeResponse:
		if !i.h.env.Index.Awaited(wire.ResponseReceiver(d)) {
			return nil, drop.UnknownIndex
		}
		if to = i.addressee(d); to == nil {
			return nil, drop.BadMAC1
		}
	case wire.TypeCookieReply:
		if !i.h.env.Index.MayAnswer(wire.CookieReplyReceiver(d), now) {
			return nil, drop.UnknownIndex
		}
	}
	return to, drop.None
}

// addressee returns the one of our identities for which a message was made, by its mac1; nil: none.
func (i *intake) addressee(d []byte) *identity {
	if ids := i.h.identities.Load(); i.ids != ids {
		i.ids, i.current, i.previous = ids, noise.NewMAC1Checker(ids.current.noise), nil
		if ids.previous != nil {
			i.previous = noise.NewMAC1Checker(ids.previous.noise)
		}
	}
	switch {
	case i.current.Valid(d):
		return i.ids.current
	case i.previous != nil && i.previous.Valid(d):
		return i.ids.previous
	}
	return nil
}

// Package protocol holds the rules of time of one WireGuard peer: when to retry a handshake, when to say
// that we are still here, when to ask for new keys and when to forget the old ones.
//
// It decides and does nothing else: no clock, timer, socket, goroutine or key is in here. Events go in with
// the time at which they happened, and Due says which actions are due. The caller performs them.
//
// A peer has five timers (kernel drivers/net/wireguard/timers.c, whitepaper §6):
//
//   - retransmit: an initiation had no response within RekeyTimeout (+ jitter): send another, at most
//     MaxHandshakeAttempts, then give up;
//   - passive keepalive: data came and nothing went back for KeepaliveTimeout: send an empty message;
//   - unanswered: data went and nothing came back for UnansweredAfter (+ jitter): new handshake;
//   - zero keys: ZeroKeysAfter since the newest session: wipe all key material;
//   - persistent keepalive: nothing passed either way for the configured interval: send an empty message.
//
// Concurrency: the methods that a packet causes (DataSent, DataReceived, AuthenticatedSent,
// AuthenticatedReceived) use atomics only and may be called by any number of lanes at once. All others
// belong to the slow plane and are called with the peer's lock held.
package protocol

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
)

// Timers is the timer state of one peer. The zero value is a peer with which nothing has happened.
type Timers struct {
	// Written by lanes.
	unansweredSince  atomic.Int64 // first data sent since anything authenticated came; 0: none
	unackedSince     atomic.Int64 // first data received since anything authenticated went; 0: none
	anotherKeepalive atomic.Bool  // more data came while unackedSince was set
	lastTraversal    atomic.Int64 // anything authenticated, either way

	persistent atomic.Int64 // interval in ns; 0: off

	// Written by the slow plane, read by lanes.
	retransmitAt atomic.Int64 // when to stop waiting for a response; 0: none is awaited
	jitter       atomic.Int64 // ns, drawn anew for each initiation and session

	// Slow plane only.
	zeroAt   boottime.Time
	attempts int
	gaveUp   bool
}

// Actions is what Due found to be due, as a set of bits.
type Actions uint8

// The actions of Due.
const (
	// SendInitiation: start or retry a handshake.
	SendInitiation Actions = 1 << iota
	// SendKeepalive: send an empty transport message.
	SendKeepalive
	// GiveUp: the handshake had all its attempts; drop what waits for it.
	GiveUp
	// ZeroKeys: wipe every session and handshake of the peer.
	ZeroKeys
	// ClearSource: forget the local address used for the endpoint; it may be why nothing comes back.
	ClearSource
)

// DataSent is called when a transport message with data was sent.
func (t *Timers) DataSent(now boottime.Time) {
	if t.unansweredSince.Load() == 0 {
		t.unansweredSince.CompareAndSwap(0, int64(now))
	}
}

// DataReceived is called when a transport message with data was authenticated.
func (t *Timers) DataReceived(now boottime.Time) {
	if t.unackedSince.Load() == 0 {
		t.unackedSince.CompareAndSwap(0, int64(now))
	} else if !t.anotherKeepalive.Load() {
		t.anotherKeepalive.Store(true)
	}
}

// AuthenticatedSent is called when anything authenticated was sent: data, keepalive, initiation or response.
func (t *Timers) AuthenticatedSent(now boottime.Time) {
	if t.unackedSince.Load() != 0 {
		t.unackedSince.Store(0)
	}
	t.traversal(now)
}

// AuthenticatedReceived is called when anything was received and authenticated.
func (t *Timers) AuthenticatedReceived(now boottime.Time) {
	if t.unansweredSince.Load() != 0 {
		t.unansweredSince.Store(0)
	}
	t.traversal(now)
}

func (t *Timers) traversal(now boottime.Time) { t.lastTraversal.Store(int64(now)) }

// SetPersistent sets the interval of the persistent keepalive; 0 turns it off.
func (t *Timers) SetPersistent(interval time.Duration, now boottime.Time) {
	t.persistent.Store(int64(interval))
	t.traversal(now)
}

// Persistent returns the interval of the persistent keepalive; 0 when off.
func (t *Timers) Persistent() time.Duration { return time.Duration(t.persistent.Load()) }

// HandshakeWanted is called when something other than a retry asks for a handshake: its attempts start anew.
func (t *Timers) HandshakeWanted() { t.attempts, t.gaveUp = 0, false }

// HandshakeInitiated is called when an initiation was sent. jitter is random in [0, RekeyTimeoutJitterMax).
func (t *Timers) HandshakeInitiated(now boottime.Time, jitter time.Duration) {
	t.jitter.Store(int64(jitter))
	t.gaveUp = false
	t.retransmitAt.Store(int64(now.Add(RekeyTimeout + jitter)))
}

// HandshakeComplete is called when a session is confirmed: a response was consumed, or the first transport
// message of a session that we answered came.
func (t *Timers) HandshakeComplete() {
	t.retransmitAt.Store(0)
	t.attempts, t.gaveUp = 0, false
}

// SessionDerived is called when new session keys exist. jitter is random in [0, RekeyTimeoutJitterMax): a responder
// needs some as well, for the handshake after unanswered data.
func (t *Timers) SessionDerived(now boottime.Time, jitter time.Duration) {
	t.zeroAt = now.Add(ZeroKeysAfter)
	t.jitter.Store(int64(jitter))
}

// Attempts returns how many times the running handshake was retried.
func (t *Timers) Attempts() int { return t.attempts }

// Handshaking reports whether an initiation waits for its response. Any goroutine may ask.
func (t *Timers) Handshaking() bool { return t.retransmitAt.Load() != 0 }

// GaveUp reports whether the last handshake ran out of attempts.
func (t *Timers) GaveUp() bool { return t.gaveUp }

// LastTraversal returns when anything authenticated last passed, either way; 0: never. Any goroutine may ask.
func (t *Timers) LastTraversal() boottime.Time { return boottime.Time(t.lastTraversal.Load()) }

// Stop forgets all timers, as when the device goes down.
func (t *Timers) Stop() {
	t.unansweredSince.Store(0)
	t.unackedSince.Store(0)
	t.anotherKeepalive.Store(false)
	t.retransmitAt.Store(0)
	t.zeroAt, t.attempts, t.gaveUp = 0, 0, false
}

// Due returns the actions due at now and moves the timers that fired.
func (t *Timers) Due(now boottime.Time) Actions {
	var a Actions
	if at := t.retransmitAt.Load(); at != 0 && at <= int64(now) {
		a |= t.retransmit(now)
	}
	if since := boottime.Time(t.unackedSince.Load()); since != 0 && since.Add(KeepaliveTimeout) <= now {
		a |= SendKeepalive
		t.unackedSince.Store(0)
		if t.anotherKeepalive.Swap(false) {
			t.unackedSince.Store(int64(now))
		}
	}
	if since := boottime.Time(t.unansweredSince.Load()); since != 0 && since.Add(t.unansweredAfter()) <= now {
		a |= SendInitiation | ClearSource
		t.unansweredSince.Store(0)
		t.HandshakeWanted()
	}
	if t.zeroAt != 0 && t.zeroAt <= now {
		a |= ZeroKeys
		t.zeroAt = 0
	}
	if p := t.Persistent(); p != 0 && boottime.Time(t.lastTraversal.Load()).Add(p) <= now {
		a |= SendKeepalive
		t.traversal(now)
	}
	return a
}

// retransmit is the expiry of the wait for a response.
func (t *Timers) retransmit(now boottime.Time) Actions {
	t.retransmitAt.Store(0)
	if t.attempts >= MaxHandshakeAttempts {
		t.gaveUp = true
		t.unackedSince.Store(0)
		if t.zeroAt == 0 {
			t.zeroAt = now.Add(ZeroKeysAfter)
		}
		return GiveUp
	}
	t.attempts++
	return SendInitiation | ClearSource
}

// unansweredAfter is UnansweredAfter with this peer's jitter.
func (t *Timers) unansweredAfter() time.Duration {
	return UnansweredAfter + time.Duration(t.jitter.Load())
}

// Next returns when Due has to be asked again, and false when nothing is pending.
func (t *Timers) Next() (boottime.Time, bool) {
	next, _ := t.NextOfTraffic()
	next = earlier(next, boottime.Time(t.retransmitAt.Load()))
	next = earlier(next, t.zeroAt)
	return next, next != 0
}

// NextOfTraffic is Next for those timers that traffic starts. Any goroutine may ask.
func (t *Timers) NextOfTraffic() (boottime.Time, bool) {
	var next boottime.Time
	if since := boottime.Time(t.unackedSince.Load()); since != 0 {
		next = since.Add(KeepaliveTimeout)
	}
	if since := boottime.Time(t.unansweredSince.Load()); since != 0 {
		next = earlier(next, since.Add(t.unansweredAfter()))
	}
	if p := t.Persistent(); p != 0 {
		next = earlier(next, boottime.Time(t.lastTraversal.Load()).Add(p))
	}
	return next, next != 0
}

// earlier returns the earlier of two deadlines, of which zero is none.
func earlier(a, b boottime.Time) boottime.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Package timers implements the timer rules of a WireGuard peer: when a handshake may begin and
// when it is retried, when to send a keepalive, when to renew keys, and when to wipe old ones. Heap
// finds the peer whose deadline is next.
//
// It only decides: it has no clock, timer, socket, goroutine or key. Events are passed in with the
// time at which they happened, and Due returns the actions that are due. The caller performs them.
//
// A peer has five timers (kernel drivers/net/wireguard/timers.c, whitepaper §6):
//
//   - retransmit: an initiation had no response within RekeyTimeout (+ jitter): send another, at
//     most MaxHandshakeAttempts, then give up;
//   - passive keepalive: data came and nothing went back for KeepaliveTimeout: send an empty
//     message;
//   - unanswered: data went and nothing came back for UnansweredAfter (+ jitter): new handshake;
//   - zero keys: ZeroKeysAfter since the newest session: wipe all key material;
//   - persistent keepalive: nothing passed either way for the configured interval: send an empty
//     message.
//
// Concurrency: the methods that a packet causes (DataSent, DataReceived, AuthenticatedSent,
// AuthenticatedReceived) use only atomics and may be called by any number of lanes at once. The
// others need the peer's lock unless they say that any goroutine may call them.
package timers

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
)

// Timers is the timer state of one peer. The zero value is a peer without any history.
type Timers struct {
	// Written by lanes.
	unansweredSince  atomic.Int64 // first data sent since anything authenticated came; 0: none
	unackedSince     atomic.Int64 // first data received since anything authenticated went; 0: none
	lastTraversal    atomic.Int64 // anything authenticated, either way
	anotherKeepalive atomic.Bool  // more data came while unackedSince was set
	// A handshake was requested, and Due has not been called since.
	wanted atomic.Bool
	// A keepalive was requested, and Due has not been called since.
	keepalive        atomic.Bool
	renewedOnReceive atomic.Bool // renewal on receive was requested, which happens once a session

	// Written with the peer's lock held, read by lanes.
	persistent   atomic.Int64 // interval in ns; 0: off
	initiatedAt  atomic.Int64 // the last initiation, or attempt to make one; 0: never
	retransmitAt atomic.Int64 // when to stop waiting for a response; 0: none is awaited
	jitter       atomic.Int32 // ns, drawn again for each initiation and session

	// Guarded by the peer's lock.
	attempts int8 // at most MaxHandshakeAttempts
	gaveUp   bool
	zeroAt   boottime.Time
}

// Actions is the set of actions, as bits, that Due found to be due.
type Actions uint8

// The actions of Due.
const (
	// SendInitiation: start or retry a handshake.
	SendInitiation Actions = 1 << iota
	// SendKeepalive: send an empty transport message.
	SendKeepalive
	// GiveUp: the handshake has used all its attempts; drop the packets that wait for it.
	GiveUp
	// ZeroKeys: wipe every session and handshake of the peer.
	ZeroKeys
	// ClearSource: forget the local address used towards the endpoint, as it may be the reason why
	// nothing comes back.
	ClearSource
	// Unanswered: data had no answer. A handshake comes with it.
	Unanswered
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

// AuthenticatedSent is called when anything authenticated was sent: data, keepalive, initiation or
// response.
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

// WantHandshake is called when a session is needed. It returns when the handshake may begin, which
// is RekeyTimeout after the last one, and whether the caller has to arrange that Due is called
// then. That is not necessary if the request is already known, nor while an initiation waits for
// its response, when a request only restores the number of attempts (kernel send.c,
// wg_packet_send_queued_handshake_initiation). Any goroutine may call it.
func (t *Timers) WantHandshake(now boottime.Time) (at boottime.Time, arm bool) {
	if t.wanted.Load() || !t.wanted.CompareAndSwap(false, true) || t.Handshaking() {
		return 0, false
	}
	return t.MayInitiate(now), true
}

// Wanted reports whether WantHandshake was called and the request is still open. Any goroutine may
// call it.
func (t *Timers) Wanted() bool { return t.wanted.Load() }

// Granted clears a request for a handshake, because there is a session now or because the handshake
// must not begin, and reports whether there was one.
func (t *Timers) Granted() bool { return t.wanted.Swap(false) }

// WantKeepalive makes a keepalive due, regardless of earlier traffic. Any goroutine may call it.
func (t *Timers) WantKeepalive() { t.keepalive.Store(true) }

// MayInitiate returns when the next initiation may be sent if one is requested at the given time:
// no sooner than RekeyTimeout after the last (whitepaper §6.1). Any goroutine may call it.
func (t *Timers) MayInitiate(at boottime.Time) boottime.Time {
	if last := boottime.Time(t.initiatedAt.Load()); last != 0 {
		at = max(at, last.Add(RekeyTimeout))
	}
	return at
}

// InitiatedAt returns when the last initiation was sent; 0: never. Any goroutine may call it.
func (t *Timers) InitiatedAt() boottime.Time { return boottime.Time(t.initiatedAt.Load()) }

// InitiationFailed is called when an initiation could not be made. The next attempt waits as if
// this one had been sent.
func (t *Timers) InitiationFailed(now boottime.Time) { t.initiatedAt.Store(int64(now)) }

// RenewOnReceive reports whether a message received under the current session of the given age is a
// reason to ask for the next one: the age has reached RekeyBeforeReject, we are the initiator, and
// it was not requested yet (kernel receive.c, keep_key_fresh). Any goroutine may call it.
func (t *Timers) RenewOnReceive(initiator bool, age time.Duration) bool {
	return initiator && age >= RekeyBeforeReject && t.renewedOnReceive.CompareAndSwap(false, true)
}

// restart gives a handshake all its attempts again, because something other than a retry requested
// it.
func (t *Timers) restart() { t.attempts, t.gaveUp = 0, false }

// HandshakeInitiated is called when an initiation was sent. jitter is random in [0,
// RekeyTimeoutJitterMax).
func (t *Timers) HandshakeInitiated(now boottime.Time, jitter time.Duration) {
	t.jitter.Store(int32(jitter))
	t.initiatedAt.Store(int64(now))
	t.gaveUp = false
	t.retransmitAt.Store(int64(now.Add(RekeyTimeout + jitter)))
}

// HandshakeComplete is called when a session is confirmed: a response was consumed, or the first
// transport message of a session for which we sent the response has come.
func (t *Timers) HandshakeComplete() {
	t.retransmitAt.Store(0)
	t.Granted() // a request made between the derivation of the keys and this call
	t.restart()
}

// SessionDerived is called when new session keys exist. jitter is random in [0,
// RekeyTimeoutJitterMax); a responder needs it too, for the handshake after unanswered data.
func (t *Timers) SessionDerived(now boottime.Time, jitter time.Duration) {
	t.zeroAt = now.Add(ZeroKeysAfter)
	t.jitter.Store(int32(jitter))
	t.renewedOnReceive.Store(false)
	t.Granted()
}

// Handshaking reports whether an initiation waits for its response. Any goroutine may call it.
func (t *Timers) Handshaking() bool { return t.retransmitAt.Load() != 0 }

// GaveUp reports whether the last handshake ran out of attempts.
func (t *Timers) GaveUp() bool { return t.gaveUp }

// LastTraversal returns when anything authenticated last passed in either direction; 0: never. Any
// goroutine may call it.
func (t *Timers) LastTraversal() boottime.Time { return boottime.Time(t.lastTraversal.Load()) }

// UnansweredSince returns when the first data was sent since anything authenticated came; 0:
// nothing waits for an answer. Any goroutine may call it.
func (t *Timers) UnansweredSince() boottime.Time { return boottime.Time(t.unansweredSince.Load()) }

// Stop clears all timers, as when the device goes down: the next handshake may begin at once. A
// request for a handshake is kept; see Granted.
func (t *Timers) Stop() {
	t.unansweredSince.Store(0)
	t.unackedSince.Store(0)
	t.anotherKeepalive.Store(false)
	t.keepalive.Store(false)
	t.retransmitAt.Store(0)
	t.initiatedAt.Store(0)
	t.zeroAt, t.attempts, t.gaveUp = 0, 0, false
}

// Due returns the actions due at now and advances the timers that fired. A requested handshake is
// due as well; its attempts are reset before the timers are evaluated (kernel send.c,
// wg_packet_send_queued_handshake_initiation).
func (t *Timers) Due(now boottime.Time) Actions {
	var a Actions
	if t.Granted() {
		t.restart()
		a |= SendInitiation
	}
	if t.keepalive.Swap(false) {
		a |= SendKeepalive
	}
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
		a |= SendInitiation | ClearSource | Unanswered
		t.unansweredSince.Store(0)
		t.restart()
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

// retransmit handles the expiry of the wait for a response.
func (t *Timers) retransmit(now boottime.Time) Actions {
	t.retransmitAt.Store(0)
	if int(t.attempts) >= MaxHandshakeAttempts {
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

// Next returns when Due has to be called again, and false if nothing is pending.
func (t *Timers) Next() (boottime.Time, bool) {
	next, _ := t.NextOfTraffic()
	next = earlier(next, boottime.Time(t.retransmitAt.Load()))
	next = earlier(next, t.zeroAt)
	return next, next != 0
}

// NextOfTraffic is Next for the timers that traffic starts. Any goroutine may call it.
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

// earlier returns the earlier of two deadlines, where zero means none.
func earlier(a, b boottime.Time) boottime.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

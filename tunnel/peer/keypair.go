package peer

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/internal/boottime"
	"tund/tunnel/datasession"
	"tund/tunnel/timers"
)

// Keypair is a session together with what the tunnel knows about it: its peer and its age. A peer
// has up to four: the current one, under which we send; the next one, for which we sent a response
// and which the peer has not used yet; and former ones, in which the peer may still send, or whose
// messages may be under way. The kernel has one of those, noise.c, struct noise_keypairs.
type Keypair struct {
	Session     *session.Session
	Peer        *Peer
	Established boottime.Time
	// LastLink is the kind of the payload that came last (offload.Link): the lane expects the next
	// one to have the same destination.
	LastLink atomic.Uint32

	// heardAt is the boottime at which an authenticated message last came under this session; 0:
	// never.
	heardAt atomic.Int64
	// stale counts messages from elsewhere since the session was replaced by a newer one.
	stale atomic.Uint32
	// answeredAt is the boottime at which we last responded to an initiation of the peer for the
	// session after this one; 0: never.
	answeredAt atomic.Int64
	// renewAfter is the age at which the initiator asks for the next session, and crossed tells
	// whether the peer began a handshake at the same time. Constant once the session is current.
	renewAfter time.Duration
	crossed    bool
	own        keys.PublicKey // ours, with which the session was made; constant once it is in use

	// Agreement is that about the data sessions of this WireGuard session. It belongs to the
	// goroutine that agrees on them.
	Agreement *datasession.Exchange
	exporter  secret        // see TakeExporter
	data      *DataSessions // of which this is one; nil: this is a WireGuard session. Constant
	sessions  *DataSessions // of this WireGuard session; nil: none. Guarded by the peer's lock
	reserved  []uint32      // receiver indices for them, also in use. Guarded by the peer's lock
}

// NewKeypair makes a session of p from the keys of a handshake, which the caller has to wipe.
func NewKeypair(p *Peer, k *noise.Keys, now boottime.Time) *Keypair {
	return &Keypair{
		Session: session.New(k), Peer: p, Established: now, renewAfter: timers.RekeyAfterTime,
		exporter: secret(k.Exporter),
	}
}

// Heard reports whether an authenticated message has come under this session.
func (kp *Keypair) Heard() bool { return kp.heardAt.Load() != 0 }

// Usable reports whether the session is young enough to send and receive.
func (kp *Keypair) Usable(now boottime.Time) bool {
	return now.Sub(kp.Established) < timers.RejectAfterTime
}

// RenewOnSend reports whether sending the message with the given counter is a reason to ask for the
// next session: this one is used up, or it is old and we are its initiator (kernel send.c,
// keep_key_fresh). A data session in use although there is a newer WireGuard session is none.
func (kp *Keypair) RenewOnSend(counter uint64, now boottime.Time) bool {
	main := kp.Main()
	if counter <= kp.Session.RekeyAfter() && (!main.Session.Initiator() || now.Sub(kp.Established) < main.renewAfter) {
		return false
	}
	// The peer is renewing it. Two renewals at once need three sessions.
	if at := main.answeredAt.Load(); at != 0 && now.Sub(boottime.Time(at)) < timers.RekeyTimeout/2 {
		return false
	}
	return main == kp || kp.Peer.Current() == main
}

// Current returns the session under which to send, or nil if there is none. It may be too old: see
// Usable.
func (p *Peer) Current() *Keypair { return p.current.Load() }

// begin installs a new session: the initiator uses it at once, while the responder waits for the
// first message that proves that the initiator has it (kernel noise.c, add_new_keypair). own is our
// public key. Callers hold mu.
func (p *Peer) begin(ix *Index, kp *Keypair, own keys.PublicKey) {
	kp.own = own
	ix.assign(kp.Session.LocalIndex(), kp)
	if !kp.Session.Initiator() {
		p.keep(ix, p.next, kp.Established)
		p.next = kp
		if cur := p.current.Load(); cur != nil {
			cur.answeredAt.Store(int64(kp.Established))
		}
		return
	}
	if p.crosses() {
		kp.crossed, kp.renewAfter = true, kp.renewAfter+p.putOff(own)
	} else {
		p.keep(ix, p.next, kp.Established)
		p.next = nil
	}
	p.keep(ix, p.current.Load(), kp.Established)
	p.current.Store(kp)
	p.superseded(kp)
}

// crosses reports whether the peer has begun a handshake at the same time as we: there is a session
// for which we sent a response since the current one was made. It will be used if that response
// arrives; until then, and until ours arrives, the peer sends under the current one, which is kept
// therefore. (The kernel lets it go at once, noise.c, add_new_keypair.) A session that was made
// before the current one is left over from an earlier crossing. Callers hold mu.
func (p *Peer) crosses() bool {
	cur := p.current.Load()
	return p.next != nil && (cur == nil || p.next.Established > cur.Established)
}

// keep makes kp, which may be nil, a former session: the peer may send in it until it knows of a
// newer one, or for as long as it takes another session for the newer one, where handshakes crossed
// or messages changed their order. It cannot be known in which of its sessions the peer will send
// next, so the two that were heard last are kept. After an ordinary renewal, only one of them is
// young enough to receive. Callers hold mu.
func (p *Peer) keep(ix *Index, kp *Keypair, now boottime.Time) {
	list := append(make([]*Keypair, 0, 3), kp, p.former[0], p.former[1])
	list = slices.DeleteFunc(list, func(kp *Keypair) bool { return kp == nil })
	slices.SortStableFunc(list, func(a, b *Keypair) int { return cmp.Compare(b.used(), a.used()) })
	p.former = [2]*Keypair{}
	n := 0
	for _, kp := range list {
		if n < len(p.former) && kp.Usable(now) {
			p.former[n] = kp
			n++
		} else {
			p.retire(ix, kp)
		}
	}
}

// used returns when the peer last showed that it has the session; 0: never.
func (kp *Keypair) used() boottime.Time {
	heard := boottime.Time(kp.heardAt.Load())
	if kp.Session.Initiator() {
		return max(heard, kp.Established)
	}
	return heard
}

// putOff returns by how much to delay the renewal of a session whose handshake crossed one of the
// peer's. Both sides are then initiators, and their renewals would cross for ever, with packets
// lost each time. Therefore one side goes first, and the other becomes the responder. This also
// works with a peer that has no such rule, because it renews at an age of its own.
func (p *Peer) putOff(own keys.PublicKey) time.Duration {
	const spread = timers.RekeyTimeout / 2
	if bytes.Compare(own[:], p.key[:]) > 0 {
		return spread + rand.N(spread)
	}
	return rand.N(spread)
}

// InUse reports whether an authenticated message under kp, the first of a train, changes nothing: a
// WireGuard session is the current one already, or the peer is known to have the data session.
func (kp *Keypair) InUse() bool {
	if kp.data != nil {
		return kp.data.standing.Load()
	}
	return kp.Peer.Current() == kp
}

// Confirm notes the first message under kp: the next session becomes current, and packets leave in
// data sessions that the peer is now known to have. It reports whether either has happened. Lanes
// call it: it waits for nothing longer than a few assignments of another goroutine.
func (p *Peer) Confirm(ix *Index, kp *Keypair, now boottime.Time, wall time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	kp.Main().heardAt.Store(int64(now))
	if d := kp.data; d != nil {
		if d.standing.Load() || !p.holds(d.main) {
			return false
		}
		p.confirmNext(ix, d.main, wall)
		p.stand(d)
		return true
	}
	return p.confirmNext(ix, kp, wall)
}

// confirmNext makes kp current if it was the next session. Callers hold mu.
func (p *Peer) confirmNext(ix *Index, kp *Keypair, wall time.Time) bool {
	if p.next != kp {
		return false
	}
	p.next = nil
	if cur := p.current.Load(); cur != nil && cur.crossed && kp.Established <= cur.Established {
		// The peer uses the session that it began, and we ours.
		p.keep(ix, kp, boottime.Time(kp.heardAt.Load()))
		return false
	}
	p.keep(ix, p.current.Load(), boottime.Time(kp.heardAt.Load()))
	p.current.Store(kp)
	p.superseded(kp)
	p.completed(wall)
	return true
}

// completed notes that a handshake led to a usable session. Callers hold mu.
func (p *Peer) completed(wall time.Time) {
	p.Timers.HandshakeComplete()
	p.unanswered.Store(0)
	past := p.history()
	if wall.Sub(past.handshakeWall.Time()) >= timers.RejectAfterTime || p.vain >= silentHandshakes {
		past.upSince = boottime.WallOf(wall)
	}
	past.handshakeWall, past.failingSince = boottime.WallOf(wall), 0
	past.count.Completed++
	p.unconfirmed, p.vain, p.stopped, p.faults = 0, 0, false, nil
}

// DropSessions forgets all sessions and the handshake in progress.
func (p *Peer) DropSessions(ix *Index) {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	p.Handshake.DropPending(ix)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(ix, func(*Keypair) bool { return true })
}

// end ends the sessions that are to be ended, and reports whether there were any. Callers hold mu.
func (p *Peer) end(ix *Index, which func(*Keypair) bool) (ended bool) {
	end := func(kp *Keypair) bool {
		if kp == nil || !which(kp) {
			return false
		}
		p.retire(ix, kp)
		kp.Session.Zero()
		if kp.sessions != nil {
			p.data.CompareAndSwap(kp.sessions, nil)
			kp.sessions.zero()
		}
		ended = true
		return true
	}
	for _, kp := range []**Keypair{&p.next, &p.former[0], &p.former[1]} {
		if end(*kp) {
			*kp = nil
		}
	}
	if end(p.current.Load()) {
		p.current.Store(nil)
	}
	return ended
}

// KeepIdentities ends everything that was made with identities other than those that ours reports:
// sessions, and the handshake in progress with its timers, so that the next one does not wait for a
// response to the last. It reports whether that was anything, and whether the peer has no session
// any more under which to send.
func (p *Peer) KeepIdentities(ix *Index, ours func(keys.PublicKey) bool) (ended, lost bool) {
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	pending := p.Handshake.keepIdentities(ix, ours)
	p.mu.Lock()
	defer p.mu.Unlock()
	had := p.current.Load() != nil
	ended = p.end(ix, func(kp *Keypair) bool { return !ours(kp.own) })
	lost = had && p.current.Load() == nil
	if pending || lost {
		p.Timers.Stop()
	}
	return ended || pending, lost
}

// keepIdentities is KeepIdentities for what the handshakes have left. It reports whether a
// handshake in progress has ended. The lock is held.
func (h *Handshake) keepIdentities(ix *Index, ours func(keys.PublicKey) bool) (pending bool) {
	s := h.state
	if s == nil {
		return false
	}
	if s.remoteFor != nil && !ours(s.remoteFor.Public()) {
		s.remote, s.remoteFor, s.macs = nil, nil, nil
	}
	if s.KnownAs != nil && !ours(s.KnownAs.Public()) {
		s.KnownAs = nil
	}
	pending = s.Pending != nil && !ours(s.PendingAs.Public())
	if pending {
		h.DropPending(ix)
	}
	return pending
}

// retire takes a session, with its data sessions, out of use. Its keys are left to the garbage
// collector rather than wiped here, because a lane may be in the middle of a train that uses it.
// Callers hold mu.
func (p *Peer) retire(ix *Index, kp *Keypair) {
	if kp != nil {
		ix.Release(kp.Session.LocalIndex())
		p.forgetData(ix, kp)
	}
}

// Event describes a handshake message for its peer: when it came, from where, and how large it was.
type Event struct {
	Now   boottime.Time
	Wall  time.Time
	Size  int           // bytes
	Delay time.Duration // random in [0, timers.RekeyTimeoutJitterMax)
}

// Initiated notes that an initiation is about to be sent.
func (p *Peer) Initiated(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history().count.InitiationsSent++
	p.Timers.HandshakeInitiated(e.Now, e.Delay)
}

// InitiationReceived notes an initiation that has been authenticated.
func (p *Peer) InitiationReceived() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history().count.InitiationsReceived++
}

// clockAhead returns how far the peer's clock is ahead of ours, which says wall at now, by its last
// initiation; 0 when that is long ago. The lock is held.
func (h *Handshake) clockAhead(now boottime.Time, wall time.Time) time.Duration {
	s := h.state
	if s == nil || s.LastInitiation == 0 {
		return 0
	}
	age := now.Sub(s.LastInitiation)
	if age >= timers.RejectAfterTime {
		return 0
	}
	return s.LastTimestamp.Time().Add(age).Sub(wall)
}

// Responded installs the session of an initiation that we answer. It returns how many answers in a
// row, including this one, have not led to a session.
func (p *Peer) Responded(ix *Index, kp *Keypair, own keys.PublicKey, e Event) (unconfirmed int) {
	p.rxBytes.Add(uint64(e.Size))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Timers.AuthenticatedReceived(e.Now)
	p.begin(ix, kp, own)
	p.Timers.SessionDerived(e.Now, e.Delay)
	p.history().count.ResponsesSent++
	if p.unconfirmed == 0 {
		p.blame().unheardSince = e.Now
	}
	p.unconfirmed++
	return int(p.unconfirmed)
}

// Finished installs the session of an initiation of ours that was answered.
func (p *Peer) Finished(ix *Index, kp *Keypair, own keys.PublicKey, e Event) {
	p.rxBytes.Add(uint64(e.Size))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Timers.AuthenticatedReceived(e.Now)
	p.history().count.ResponsesReceived++
	p.begin(ix, kp, own)
	p.Timers.SessionDerived(e.Now, e.Delay)
	p.completed(e.Wall)
}

// CookieReceived notes a cookie of the peer.
func (p *Peer) CookieReceived() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history().count.CookiesReceived++
}

package handshake

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/peer"
	"tund/tunnel/udp"
)

// initiate sends an initiation to p. If the rules do not allow one yet, it requests one for later
// (whitepaper §6.4).
func (w *Worker) initiate(p *peer.Peer, now boottime.Time) {
	if p.Timers.MayInitiate(now) > now {
		w.env.WantHandshake(p, now)
		return
	}
	var msg [wire.InitiationSize]byte
	if w.makeInitiation(p, &msg, now) {
		w.sendInitiation(p, msg[:], now)
	}
}

// sendInitiation sends an initiation to p's endpoint, or to the first configured endpoint to which
// the kernel agrees to send.
func (w *Worker) sendInitiation(p *peer.Peer, msg []byte, now boottime.Time) {
	ep := p.Endpoint()
	if ep == nil {
		return
	}
	for tried := 1; udp.Unreachable(w.out.SendToPeer(p, msg, now)); tried++ {
		if !p.AfterRefusal(ep.Addr, tried) {
			return
		}
	}
}

// makeInitiation builds an initiation for p and reports whether it succeeded.
func (w *Worker) makeInitiation(p *peer.Peer, msg *[wire.InitiationSize]byte, now boottime.Time) bool {
	hs := &p.Handshake
	hs.Lock()
	defer hs.Unlock()
	id := w.knownAs(p)
	if p.Removed() || w.env.Link.KnownDown() || id.Public() == (keys.PublicKey{}) {
		return false
	}
	p.NextCandidate()
	if p.Endpoint() == nil {
		return false
	}
	state := hs.State()
	remote := state.Remote(id, p.PublicKey())
	hs.DropPending(w.env.Index)
	local := w.env.Index.Reserve(p)
	stamp := w.stamp(p)
	pending, err := id.Initiate(msg, remote, local, stamp)
	if err != nil {
		w.env.Index.Release(local)
		p.Fail(now, w.env.Clock.Wall(), "handshake cannot be made: "+err.Error())
		p.Timers.InitiationFailed(now)
		w.purge(p) // these packets wait for a session that will never come up
		return false
	}
	state.Pending, state.PendingIndex, state.PendingAs, state.LastSent = pending, local, id, stamp
	if w.timestamps != nil {
		w.timestamps.Sent(p.PublicKey(), stamp)
	}
	hs.Macs().Add(msg[:], now)
	w.reveal(p, id, pending, now)
	p.Initiated(w.event(now, 0))
	return true
}

// knownAs returns the identity to try with p: the one under which it knew us last, or our own.
// While there is a previous one, attempts without an answer alternate. The handshake lock of p is
// held.
func (w *Worker) knownAs(p *peer.Peer) *noise.Identity {
	ids := w.identities.Load()
	if ids.previous == nil {
		return ids.current.noise
	}
	first, second := ids.current.noise, ids.previous.noise
	if p.Handshake.State().KnownAs == second {
		first, second = second, first
	}
	if p.Unanswered()%2 == 1 {
		return second
	}
	return first
}

// stamp returns the timestamp for an initiation to p: the time, or, if the clock was set back, the
// first one after the last, because the peer accepts none that is older. The handshake lock of p is
// held.
func (w *Worker) stamp(p *peer.Peer) noise.Timestamp {
	hs := p.Handshake.State()
	now := noise.NewTimestamp(w.env.Clock.Wall())
	if hs.LastSent == (noise.Timestamp{}) && w.timestamps != nil {
		hs.LastSent = w.timestamps.LastSent(p.PublicKey())
		if behind := hs.LastSent.Time().Sub(now.Time()); behind > time.Second {
			// Those sent right before the last process ended may not have been remembered.
			hs.LastSent = noise.NewTimestamp(hs.LastSent.Time().Add(SentReserve))
		}
	}
	if now.After(hs.LastSent) {
		return now
	}
	return hs.LastSent.Next()
}

// purge drops the packets that wait for a session with p.
func (w *Worker) purge(p *peer.Peer) {
	w.env.Drop(p, drop.StagedTimeout, uint64(p.Staged.Purge(w.env.Waiting)))
}

// consumeResponse turns our initiation into a session (whitepaper §5.4.3) and sends the packets
// that waited for it. If none waited, it sends a keepalive instead, since the responder may not
// send before it hears from us (whitepaper §5.4.4).
func (w *Worker) consumeResponse(msg []byte, from *udp.Endpoint, now boottime.Time) drop.Reason {
	owner, ok := w.env.Index.Get(wire.ResponseReceiver(msg))
	if !ok || owner.Keypair != nil {
		return drop.UnknownIndex
	}
	p := owner.Peer
	if reason := w.finish(p, msg, from, now); reason != drop.None {
		return reason
	}
	w.confirm(p, w.env.Clock.Now())
	w.env.SessionUp(p, now)
	return drop.None
}

// confirm makes the responder use a session that we have initiated: it needs a message in it. What
// keepalive sends may leave in the data sessions of the session before, which go on until new ones
// stand.
func (w *Worker) confirm(p *peer.Peer, now boottime.Time) {
	if kp := p.Current(); kp != nil && p.SendingControl(0, now) != kp {
		w.out.TransmitIn(kp, nil, now)
		w.out.Flush(now)
		return
	}
	w.keepalive(p, now)
}

// finish consumes a response and installs the session.
func (w *Worker) finish(p *peer.Peer, msg []byte, from *udp.Endpoint, now boottime.Time) drop.Reason {
	hs := &p.Handshake
	hs.Lock()
	defer hs.Unlock()
	state := hs.State()
	if state.Pending == nil || state.PendingIndex != wire.ResponseReceiver(msg) {
		return drop.UnknownIndex
	}
	id := state.PendingAs
	k, err := id.Finish(state.Pending, state.Remote(id, p.PublicKey()), hs.PresharedKey(), msg)
	if err != nil {
		if errors.Is(err, noise.ErrResponse) {
			w.refused(p, now, "response does not decrypt: the preshared keys differ", zap.Stringer("endpoint", from.Addr))
		}
		return drop.HandshakeFailed
	}
	state.Pending.Zero()
	state.Pending, state.KnownAs = nil, id
	w.moved(p, from)
	p.Finished(w.env.Index, peer.NewKeypair(p, &k, now), id.Public(), w.event(now, len(msg)))
	k.Zero()
	return drop.None
}

// keepalive sends an empty transport message, or the waiting packets, which serve the same purpose
// unless they have to wait for data sessions. It begins a handshake if there is no session.
func (w *Worker) keepalive(p *peer.Peer, now boottime.Time) {
	waits := p.Sending(0, now) == nil && p.SendingControl(0, now) != nil
	if p.Staged.Len() == 0 || waits {
		w.out.Transmit(p, nil, now)
		w.out.Flush(now)
	}
	if p.Staged.Len() == 0 {
		return
	}
	w.out.SendStaged(p, now)
	if kp := p.Current(); kp == nil || !kp.Usable(now) {
		w.env.WantHandshake(p, now)
	}
}

package handshake

import (
	"go.uber.org/zap"

	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// message handles one message from the queue.
func (w *Worker) message(m *message) {
	msg := m.data[:m.size]
	p, reason := w.consume(m, msg, w.env.Clock.Now())
	w.env.Drops.Add(reason, 1)
	w.out.CaptureReceived(p, msg, &m.from, m.at, reason)
}

// consume acts on a message. It returns the peer that an initiation names, which is nil if it was
// not looked for or is not known, and why the message was dropped.
func (w *Worker) consume(m *message, msg []byte, now boottime.Time) (*peer.Peer, drop.Reason) {
	if m.kind == wire.TypeCookieReply {
		return nil, w.consumeCookie(msg, now)
	}
	if reason := w.provesAddress(m, msg, now); reason != drop.None {
		return nil, reason
	}
	if m.kind == wire.TypeInitiation {
		return w.consumeInitiation(m.to.noise, msg, &m.from, now)
	}
	return nil, w.consumeResponse(msg, &m.from, now)
}

// consumeInitiation answers a genuine initiation (whitepaper §5.4.2, §5.4.3). It returns the peer
// that it names, even if somebody else has sent it.
func (w *Worker) consumeInitiation(id *noise.Identity, msg []byte, from *udp.Endpoint, now boottime.Time) (*peer.Peer, drop.Reason) {
	in, err := id.OpenInitiation(msg)
	if err != nil {
		return nil, drop.HandshakeFailed
	}
	p := w.peers.Get(in.Public())
	if p == nil {
		w.unknown(id, in, from, now)
		return nil, drop.HandshakeFailed
	}
	var response [wire.ResponseSize]byte
	if reason := w.respond(p, id, in, msg, &response, from, now); reason != drop.None {
		return p, reason
	}
	// The response goes to the source of the initiation. For everything else the peer's endpoint
	// stays unchanged: somebody may have recorded the initiation and sent it again after we forgot
	// its timestamp. The first message of the session proves where the peer is.
	_ = w.out.SendToPeerAt(p, response[:], from, now) // counts a failure; the peer asks again
	return p, drop.None
}

// respond makes the response to an authenticated initiation of p and installs the session.
func (w *Worker) respond(p *peer.Peer, id *noise.Identity, in *noise.Incoming, msg []byte,
	response *[wire.ResponseSize]byte, from *udp.Endpoint, now boottime.Time) drop.Reason {
	hs := &p.Handshake
	hs.Lock()
	defer hs.Unlock()
	// The message may have been addressed to an identity that we had a moment ago.
	if p.Removed() || !w.identities.Load().holds(id) {
		return drop.HandshakeFailed
	}
	if w.env.Link.KnownDown() {
		return drop.DeviceDown
	}
	state := hs.State()
	remote := state.Remote(id, p.PublicKey())
	stamp, err := in.Authenticate(remote)
	if err != nil {
		return drop.HandshakeFailed
	}
	if w.timestamps != nil && state.LastTimestamp == (noise.Timestamp{}) {
		state.LastTimestamp = w.timestamps.Last(p.PublicKey())
	}
	if !stamp.After(state.LastTimestamp) {
		why := "initiation with an old timestamp: replayed, or the peer's clock went back"
		p.Doubt(now, why) // a replayed initiation must not make the peer look down
		w.env.Log.Peer(p, now, why, zap.Stringer("endpoint", from.Addr))
		return drop.HandshakeFailed
	}
	if state.LastInitiation != 0 && now.Sub(state.LastInitiation) < timers.InitiationInterval {
		return drop.RateLimited
	}
	state.LastTimestamp, state.LastInitiation = stamp, now
	if w.timestamps != nil {
		w.timestamps.Accepted(p.PublicKey(), stamp)
	}
	state.KnownAs = id
	p.InitiationReceived()
	if words := p.Called(from.Addr, now); words != "" {
		w.env.Log.Peer(p, now, words)
	}
	local := w.env.Index.Reserve(p)
	k, err := in.Respond(response, remote, hs.PresharedKey(), local)
	if err != nil {
		w.env.Index.Release(local)
		return drop.HandshakeFailed
	}
	hs.Macs().Add(response[:], now)
	w.reveal(p, id, in, now)
	in.Zero()
	if p.Endpoint() == nil { // packets to send wait for that proof
		w.moved(p, from)
	}
	n := p.Responded(w.env.Index, peer.NewKeypair(p, &k, now), id.Public(), w.event(now, len(msg)))
	k.Zero()
	if n >= peer.UnconfirmedResponses {
		w.refused(p, now, "peer does not accept our responses: its preshared key differs, or they do not reach it", zap.Int("responses", n))
	}
	return drop.None
}

// refused is failed for what the peer itself has proven: it is shown even if there is a session.
func (w *Worker) refused(p *peer.Peer, now boottime.Time, why string, fields ...zap.Field) {
	p.Doubt(now, why)
	w.failed(p, now, why, fields...)
}

// failed remembers and logs why a handshake with p failed.
func (w *Worker) failed(p *peer.Peer, now boottime.Time, why string, fields ...zap.Field) {
	p.Fail(now, w.env.Clock.Wall(), why)
	w.env.Log.Peer(p, now, why, fields...)
}

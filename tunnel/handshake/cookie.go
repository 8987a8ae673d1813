package handshake

import (
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/lane"
)

// provesAddress demands, under load, a mac2 made with our cookie, and otherwise answers with a
// cookie reply (whitepaper §5.3, §5.4.7). That is the only answer that an unauthenticated datagram
// ever gets, and it is smaller than the message that caused it.
func (w *Worker) provesAddress(m *message, msg []byte, now boottime.Time) drop.Reason {
	if !w.Load.Under(now) {
		return drop.None
	}
	w.env.Log.UnderLoad(now)
	cookies := m.to.cookies
	if cookies.ValidMAC2(msg, m.from.Addr, now) {
		if !w.queue.source.allow(m.from.Addr.Addr(), now) {
			return drop.RateLimited
		}
		return drop.None
	}
	if m.kind == wire.TypeInitiation {
		w.queue.recent.forget(wire.MAC1(msg))
	}
	if !w.queue.cookies.allow(m.from.Addr.Addr(), now) {
		return drop.CookieBudget
	}
	var reply [wire.CookieReplySize]byte
	if err := cookies.Reply(&reply, msg, m.from.Addr, now); err != nil {
		return drop.Internal
	}
	if _, err := w.out.SendMessage(reply[:], &m.from); err != nil {
		w.env.Drops.Add(lane.ReasonOf(err), 1) // there is nobody to report it to
	} else {
		w.cookiesSent.Add(1)
	}
	return drop.UnderLoad
}

// consumeCookie keeps the cookie of a server under load for the next initiation. It never moves the
// endpoint and never makes us send an answer.
func (w *Worker) consumeCookie(msg []byte, now boottime.Time) drop.Reason {
	owner, ok := w.env.Index.Get(wire.CookieReplyReceiver(msg))
	if !ok {
		return drop.UnknownIndex
	}
	p := owner.Peer
	p.Handshake.Lock()
	defer p.Handshake.Unlock()
	if macs := p.Handshake.Macs(); macs == nil || macs.ConsumeReply(msg, now) != nil {
		return drop.HandshakeFailed
	}
	p.CookieReceived()
	w.failed(p, now, "peer is under load and asked to prove our address; the next attempt does")
	return drop.None
}

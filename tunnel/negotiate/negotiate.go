// Package negotiate gives peers that are tund as well data sessions: for each WireGuard session it
// runs the agreement of tunnel/datasession, carries its messages through tunnel/extension, and
// installs the result in the peer (tunnel/peer), whose lanes use it from then on.
//
// The initiator of a WireGuard session makes the offer, once the peer's hello has said that it
// knows data sessions; the responder answers. Where there are none in the end, status says why, and
// the WireGuard session carries the packets, unless post_quantum = "require" forbids that.
//
// Everything runs on the goroutine of extension.Exchange, except SetCosts, which any goroutine may
// call. The package seals no packets and chooses no keys.
package negotiate

import (
	"sync/atomic"
	"time"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/datasession"
	"tund/tunnel/extension"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
)

// Why there are no data sessions, where it is not the agreement that fails.
const (
	notTund = "the peer does not answer as tund: it is another WireGuard, an older tund, or has extensions = \"off\""
	tooOld  = "the peer's tund does not know data sessions: update it"
)

// answerWithin is how long after the beginning of a session its initiator's offer may come, where
// packets must not pass without: until an exchange that began with the session has ended, and the
// last messages of it have arrived.
const answerWithin = datasession.GiveUpAfter + 2*time.Second

// Negotiator agrees on the data sessions of all peers of a tunnel.
type Negotiator struct {
	env   *lane.Env
	x     *extension.Exchange
	lanes int
	costs atomic.Pointer[[]datasession.Cost]
}

// New registers a Negotiator of a tunnel with so many lanes. SetCosts has to be called before the
// Exchange runs.
func New(env *lane.Env, x *extension.Exchange, lanes int) *Negotiator {
	n := &Negotiator{env: env, x: x, lanes: lanes}
	x.Handle(extension.TypeOffer, n.offer)
	x.Handle(extension.TypeAnswer, n.answer)
	x.Announce(extension.FeatureDataSessions)
	x.OnHello(n.greeted)
	x.OnSilence(func(p *peer.Peer) { n.none(p, p.Current(), notTund, false) })
	x.OnDue(n.due)
	return n
}

// SetCosts sets the ciphers that may be used from the next session on, with their costs.
func (n *Negotiator) SetCosts(costs []datasession.Cost) { n.costs.Store(&costs) }

// terms are what we can do, for a session with p.
func (n *Negotiator) terms(p *peer.Peer) datasession.Terms {
	return datasession.Terms{Costs: *n.costs.Load(), Lanes: n.lanes, PostQuantum: p.PostQuantum()}
}

// greeted begins the agreement about a session that we have initiated, once the peer is known to be
// tund.
func (n *Negotiator) greeted(p *peer.Peer, kp *peer.Keypair, initiator bool) {
	if !knowsDataSessions(p) {
		n.none(p, kp, tooOld, false)
		return
	}
	if !initiator || kp.Agreement != nil {
		return
	}
	exporter, ok := n.exporter(p, kp)
	if !ok {
		return
	}
	indices := p.ReserveData(n.env.Index, kp, n.lanes, n.lanes)
	if indices == nil {
		return // the session has ended meanwhile
	}
	a, err := datasession.Offer(n.terms(p), &exporter, indices, n.x.Now())
	clear(exporter[:])
	if err != nil {
		n.none(p, kp, err.Error(), false)
		return
	}
	kp.Agreement = a
	n.drive(p, kp)
}

// exporter takes the exporter of a session that has no data sessions. A session that another
// process began has lost it: see due.
func (n *Negotiator) exporter(p *peer.Peer, kp *peer.Keypair) (exporter [keys.Size]byte, ok bool) {
	if exporter, ok = kp.TakeExporter(); !ok {
		n.x.Later(p, n.x.Now())
	}
	return exporter, ok
}

// offer handles a part of an offer.
func (n *Negotiator) offer(m *extension.Message) drop.Reason {
	p, kp := m.Peer, m.Keypair.Main()
	if kp.Session.Initiator() {
		return drop.BadInnerPacket
	}
	if kp.Agreement == nil {
		exporter, ok := n.exporter(p, kp)
		if !ok {
			return drop.None
		}
		kp.Agreement = datasession.Await(n.terms(p), &exporter, func(count int) []uint32 {
			return p.ReserveData(n.env.Index, kp, count, n.lanes)
		})
		clear(exporter[:])
	}
	o := kp.Agreement.TakeOffer(m.Body, n.x.Now())
	return n.settle(p, kp, &o)
}

// answer handles a part of an answer.
func (n *Negotiator) answer(m *extension.Message) drop.Reason {
	kp := m.Keypair.Main()
	if kp.Agreement == nil {
		return drop.BadInnerPacket
	}
	o := kp.Agreement.TakeAnswer(m.Body)
	return n.settle(m.Peer, kp, &o)
}

// settle does what a message has led to.
func (n *Negotiator) settle(p *peer.Peer, kp *peer.Keypair, o *datasession.Outcome) drop.Reason {
	if o.Agreed != nil {
		p.InstallData(n.env.Index, kp, o.Agreed, n.lanes, kp.Session.Initiator())
		o.Agreed.Zero()
	}
	if o.Send {
		n.send(kp)
	}
	if o.Confirm {
		n.x.SendKeepalive(p)
		n.env.SessionUp(p, n.x.Now()) // the packets that have waited can leave
	}
	n.drive(p, kp)
	if o.Bad {
		return drop.BadInnerPacket
	}
	return drop.None
}

// due does what is due for p and returns when to do so again; 0: when something happens.
func (n *Negotiator) due(p *peer.Peer) boottime.Time {
	kp := p.Current()
	switch {
	case kp == nil:
		return 0
	case kp.Agreement == nil:
		return earlier(n.dueWithout(p, kp), n.dueAnew(p, kp))
	}
	n.drive(p, kp)
	return earlier(kp.Agreement.Next(), n.dueAnew(p, kp))
}

// dueAnew is due where packets must not pass without data sessions, and the peer has initiated the
// session. It makes offers for a while only if it can do without them, and the session would go on
// as long as it sends packets, which are dropped here. So a new session is begun, in which the
// offer is ours.
func (n *Negotiator) dueAnew(p *peer.Peer, kp *peer.Keypair) boottime.Time {
	if !p.Strict() || kp.Session.Initiator() || p.Standing(kp) || !knowsDataSessions(p) ||
		kp.Agreement != nil && kp.Agreement.Refused() {
		return 0
	}
	if at := kp.Established.Add(answerWithin); n.x.Now() < at {
		return at
	}
	n.env.WantHandshake(p, n.x.Now())
	return 0
}

// knowsDataSessions reports whether the peer's hello says so.
func knowsDataSessions(p *peer.Peer) bool {
	return extension.Features(p.Extension.Features())&extension.FeatureDataSessions != 0
}

// earlier returns the earlier of two times, where zero means none.
func earlier(a, b boottime.Time) boottime.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// dueWithout is due for a session without an agreement. If another process began it and did not
// agree on data sessions, there will be none in it. So a new session is wanted if the peer knows
// data sessions; and where packets must not pass without, as soon as there are none of an earlier
// one either.
func (n *Negotiator) dueWithout(p *peer.Peer, kp *peer.Keypair) boottime.Time {
	if kp.HasExporter() || !p.Strict() && (p.Standing(kp) || !knowsDataSessions(p)) {
		return 0
	}
	if p.Strict() && p.Sending(0, n.x.Now()) != nil {
		return p.DataUntil()
	}
	n.env.WantHandshake(p, n.x.Now())
	return 0
}

// drive continues an agreement: it sends what is due, and tells the peer why there will be no data
// sessions.
func (n *Negotiator) drive(p *peer.Peer, kp *peer.Keypair) {
	a := kp.Agreement
	if p.Standing(kp) {
		a.Confirmed()
	}
	if a.Due(n.x.Now()) {
		n.send(kp)
	}
	if err := a.Err(); err != nil {
		n.none(p, kp, err.Error(), datasession.Demanded(err))
	}
	if next := a.Next(); next != 0 {
		n.x.Later(p, next)
	}
}

// send sends the parts of our message in the session that it is about.
func (n *Negotiator) send(kp *peer.Keypair) {
	t := extension.TypeAnswer
	if kp.Session.Initiator() {
		t = extension.TypeOffer
	}
	for _, body := range kp.Agreement.Parts() {
		n.x.SendIn(kp, t, body)
	}
}

// none notes that there will be no data sessions for kp, and why; demanded: the peer takes packets
// in no others.
func (n *Negotiator) none(p *peer.Peer, kp *peer.Keypair, why string, demanded bool) {
	if kp == nil || !p.StopData(kp, why, demanded, n.env.Clock.Wall()) {
		return
	}
	n.env.SessionChanged(p)
	if p.Strict() {
		n.env.Log.Peer(p, n.x.Now(), "no packets leave for the peer: post_quantum = \"require\", and "+why)
		n.env.Drop(p, drop.StagedTimeout, uint64(p.Staged.Purge(n.env.Waiting)))
	}
}

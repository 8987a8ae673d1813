package extension

import (
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
)

const (
	// maxHellos is the number of hellos in one session to a peer that does not answer.
	maxHellos = 3
	// helloEvery is the interval between them. A responder waits as long before the first, which is
	// usually not necessary: the hello of the initiator comes first, and is answered.
	helloEvery = time.Second
	// helloAgain is the interval at which a peer is asked on that must answer, or no packets pass
	// (post_quantum = "require"), or that did and is to be watched (liveness): a pause of the
	// network, of a few seconds, would otherwise last as long as the session.
	helloAgain = 5 * time.Second
	// maxSilent is the number of sessions in a row in which a peer that is known as tund may leave
	// the hellos unanswered before it is taken for one that is none any longer. They may be lost,
	// all of them and in both directions: on a path that loses three datagrams in ten, that happens
	// in one of 1,400 sessions, which is every other day, but not in three sessions in a row.
	maxSilent = 3
	// ownFeatures is what this package takes part in.
	ownFeatures = FeatureEcho | FeatureGoodbye | FeatureRefusal | FeatureUnheard
)

// state is what Run knows of a peer.
type state struct {
	keypair *peer.Keypair // the session that the following is about; nil: none
	// The peer has answered a hello, or sent one, in this run of tund.
	known  bool
	silent int // sessions in a row since in which it has not
	// Hellos were sent in a session of this run: without an answer, there is no second attempt
	// unless extensions = "on".
	asked     bool
	tries     int           // hellos sent in this session
	helloAt   boottime.Time // when to send the next; 0: none is due
	refusalAt boottime.Time // before that, the peer is not told again what of it is dropped
	*watch                  // nil until the peer may answer echo requests
}

// watch is what Run knows of the path to a peer. Peers that are no tund never need it.
type watch struct {
	echoes echoes
	pings  []*ping // not answered yet
	live   liveness
	loss   *losses // nil: none of the last requests of liveness was lost
	path   pathState
}

// watched makes s.watch if there is none.
func (s *state) watched() {
	if s.watch == nil {
		s.watch = new(watch)
	}
}

// check does what is due for p and returns when to do so again; 0: when something happens.
func (x *Exchange) check(p *peer.Peer) (next boottime.Time) {
	if p.Removed() || p.Extension.Mode() == peer.ExtensionsOff {
		x.forget(p)
		return 0
	}
	if x.states[p] == nil && p.Current() == nil && p.Extension.Liveness() == 0 {
		return 0 // nothing to do before the first session
	}
	s := x.stateOf(p)
	x.followSession(p, s)
	if s.helloAt != 0 && s.helloAt <= x.now {
		x.sayHello(p, s)
	}
	next = earlier(s.helloAt, x.checkRefusal(p, s))
	if p.Extension.Liveness() != 0 || x.answersEchoes(p, s) {
		s.watched()
	}
	if s.watch != nil {
		next = earlier(next, x.checkPings(p, s))
		next = earlier(next, x.checkPath(p, s))
		next = earlier(next, x.checkAlive(p, s))
	}
	for _, f := range x.ticks {
		next = earlier(next, f(p))
	}
	return next
}

// earlier returns the earlier of two deadlines, where zero means none.
func earlier(a, b boottime.Time) boottime.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// forget ends what is under way with p, which is not configured any more, or not for extensions.
func (x *Exchange) forget(p *peer.Peer) {
	if s := x.states[p]; s != nil && s.watch != nil {
		for _, o := range s.pings {
			o.end(Echo{Err: errNoExtensions})
		}
		x.forgetPath(p, s)
		x.heardUs(p, s)
	}
	delete(x.states, p)
	p.Extension.SetFeatures(0)
	p.SetReport(nil)
}

// stateOf returns the state of p, which it makes if there is none.
func (x *Exchange) stateOf(p *peer.Peer) *state {
	s := x.states[p]
	if s == nil {
		s = new(state)
		x.states[p] = s
	}
	return s
}

// followSession starts over when p has another session.
func (x *Exchange) followSession(p *peer.Peer, s *state) {
	kp := p.Current()
	if kp == nil || !kp.Usable(x.now) {
		s.keypair, s.helloAt = nil, 0
		return
	}
	if kp == s.keypair {
		return
	}
	s.keypair, s.tries, s.helloAt = kp, 0, 0
	if s.watch != nil {
		s.echoes.clear()    // what was asked in an earlier session may have no answer
		s.live = liveness{} // the new one proves that the peer hears us
	}
	if p.Extension.Mode() == peer.ExtensionsOn || s.known || !s.asked {
		s.helloAt = x.now
		if !kp.Session.Initiator() {
			s.helloAt = x.now.Add(helloEvery)
		}
	}
}

// sayHello asks p for a hello, or gives up.
func (x *Exchange) sayHello(p *peer.Peer, s *state) {
	wait := helloEvery
	if s.tries == maxHellos {
		x.noHello(p, s)
	}
	if s.tries >= maxHellos {
		if wait = helloAgain; !p.Strict() && !(s.known && p.Extension.Liveness() != 0) {
			s.helloAt = 0
			return
		}
	}
	s.asked = true
	s.tries++
	s.helloAt = x.now.Add(wait)
	x.sendHello(s.keypair, true)
}

// noHello is called when p has not answered the hellos of its session, and is taken for plain
// WireGuard until it does.
func (x *Exchange) noHello(p *peer.Peer, s *state) {
	s.silent++
	s.known = s.known && s.silent < maxSilent
	p.Extension.SetFeatures(0)
	x.forgetPath(p, s)
	for _, f := range x.silence {
		f(p)
	}
}

// sendHello sends a hello in a WireGuard session, and not in the data sessions of the one before,
// in which packets may still leave: a peer that has started over does not have them any longer.
func (x *Exchange) sendHello(kp *peer.Keypair, answer bool) {
	h := Hello{Version: helloVersion, Answer: answer, Features: ownFeatures | x.features}
	var body [helloLen]byte
	x.SendIn(kp, TypeHello, h.Append(body[:0]))
}

// hello handles the hello of a peer.
func (x *Exchange) hello(m *Message) drop.Reason {
	h, ok := ParseHello(m.Body)
	if !ok {
		return drop.BadInnerPacket
	}
	p := m.Peer
	s := x.stateOf(p)
	x.followSession(p, s)
	s.known, s.silent, s.helloAt = true, 0, 0
	p.Extension.SetFeatures(uint32(h.Features))
	if h.Answer {
		x.sendHello(m.Keypair, false)
	}
	if kp := p.Current(); kp != nil && kp == s.keypair {
		for _, f := range x.greeted {
			f(p, kp, kp.Session.Initiator())
		}
	}
	x.Later(p, x.now)
	return drop.None
}

// goodbye handles the goodbye of a peer: its sessions end now, and it is down until it is heard
// again. A goodbye that was under way while the next session began concerns the peer's earlier run.
func (x *Exchange) goodbye(m *Message) drop.Reason {
	p := m.Peer
	if cur := p.Current(); cur != nil && cur != m.Keypair && cur.Heard() {
		return drop.None
	}
	p.Stopped(x.env.Index, m.Keypair, len(m.Body) > 0 && m.Body[0] == goodbyeRemoved, x.now, x.env.Clock.Wall())
	x.env.SessionChanged(p)
	return drop.None
}

// Goodbye tells the peers that we stop, or that our device is down, through the socket of l, so
// that none of them has to wait for a timeout. Nothing may be sent to them afterwards in their
// sessions. Any goroutine may call it.
func (x *Exchange) Goodbye(l *lane.Lane) { x.sayGoodbye(l, x.peers.All(), nil) }

// Removed tells peers, through the socket of l, that they are about to be removed from the
// configuration: their next packets would otherwise be lost until a timeout, and nothing would tell
// them why. Any goroutine may call it.
func (x *Exchange) Removed(l *lane.Lane, peers []*peer.Peer) {
	x.sayGoodbye(l, peers, []byte{goodbyeRemoved})
}

// goodbyeRemoved is the body of a goodbye to a peer that was removed from the configuration. That
// of a stop is empty.
const goodbyeRemoved = 1

func (x *Exchange) sayGoodbye(l *lane.Lane, peers []*peer.Peer, body []byte) {
	var out *lane.Batch // large, and often there is nobody to tell
	now := x.env.Clock.Now()
	message := AppendMessage(nil, TypeGoodbye, body)
	for _, p := range peers {
		if Features(p.Extension.Features())&FeatureGoodbye == 0 || p.Endpoint() == nil {
			continue
		}
		if kp := p.Current(); kp != nil && kp.Usable(now) {
			if out == nil {
				out = lane.NewBatch(x.env, l, lane.MaxDatagram).MayWait()
			}
			out.TransmitIn(kp, message, now) // not in the data sessions of the one before
		}
	}
	if out != nil {
		out.Flush(now)
	}
}

package extension

import (
	"fmt"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/peer"
)

// A peer without liveness is asked whether it gets what is sent to it only while that is in doubt.
// Packets that nobody answers are no fault by themselves: much of what is sent needs no answer.
const (
	// askAfter is how long packets may have been sent to a peer, and none come from it, before it
	// is asked.
	askAfter = 4 * time.Second
	// askEvery is the interval of the requests, and maxAsked the number of them in a row after
	// which a peer that answers none of them is down, if nothing else has come either. With
	// askAfter, that is 12 seconds after the first packet that the peer does not get. On a path
	// that loses three datagrams in ten each way, so many are lost once in 50,000 times.
	askEvery = 500 * time.Millisecond
	maxAsked = 16
	// maxBySize is the number of requests in a row after which a peer is down that answers none of
	// them, but nearly all of the smaller ones that accompany them. A path that loses one datagram
	// in five each way looks like that once in two months.
	maxBySize = 12
	// unheardFor is how long the word of a peer that it does not hear us counts: it repeats it with
	// each of its requests.
	unheardFor = 3 * time.Second
	// maxUnheard is maxUnanswered while the peer says so.
	maxUnheard = 6
)

// Unanswered is called by lanes when packets are sent to p, and none has come from it since. It
// does not block.
func (x *Exchange) Unanswered(p *peer.Peer, now boottime.Time) {
	x.due.Arm(p.ExtensionDeadline(), now.Add(askAfter))
}

// doubted reports whether it is in doubt that p gets what is sent to it. If not, at is when that
// may change; 0: when something happens.
func (x *Exchange) doubted(p *peer.Peer, s *state) (doubted bool, at boottime.Time) {
	if x.saidUnheard(s) || s.path.narrow || p.IsDead() {
		return true, 0
	}
	// Answers to the smaller requests do not end it.
	if s.live.unanswered > 0 && p.Extension.Liveness() == 0 {
		return true, 0
	}
	since := p.Extension.Waiting()
	if since == 0 {
		return false, 0
	}
	at = since.Add(askAfter)
	return x.now >= at, at
}

// saidUnheard reports whether p goes on to say that it does not hear us.
func (x *Exchange) saidUnheard(s *state) bool {
	return s.live.unheardAt != 0 && x.now.Sub(s.live.unheardAt) < unheardFor
}

// sayUnheard tells p that nothing comes from it, if it wants to know: what we send may arrive there
// all the same, and then nothing else would tell it that its answers are lost.
func (x *Exchange) sayUnheard(p *peer.Peer) {
	if Features(p.Extension.Features())&FeatureUnheard != 0 {
		x.Send(p, TypeUnheard, nil)
	}
}

// unheard handles the word of a peer that nothing comes to it from us. It is not believed as it is:
// the peer is asked, and is down if it does not answer, as nobody can who hears nothing.
func (x *Exchange) unheard(m *Message) drop.Reason {
	s := x.stateOf(m.Peer)
	if x.answersEchoes(m.Peer, s) {
		s.watched()
		s.live.unheardAt = m.At
		x.Later(m.Peer, x.now)
	}
	return drop.None
}

func unheardText(p *peer.Peer) string {
	return fmt.Sprintf("the peer says that nothing comes to it from this host: what we send does not arrive there (%s)", to(p))
}

func sizeText(p *peer.Peer) string {
	return fmt.Sprintf("datagrams of %d bytes are lost on the way to the peer or back, although smaller ones arrive (%s)",
		watchDatagram, to(p))
}

func missedText(p *peer.Peer, requests int, within time.Duration) string {
	return fmt.Sprintf("no answer from %s to %d echo requests within %v: peer down, or datagrams blocked", to(p), requests,
		within.Round(100*time.Millisecond))
}

// to names the endpoint of p.
func to(p *peer.Peer) string {
	if ep := p.Endpoint(); ep != nil {
		return ep.Addr.String()
	}
	return "the peer"
}

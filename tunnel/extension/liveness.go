package extension

import (
	"fmt"
	"time"

	"tund/internal/boottime"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
)

// maxMissed is the number of echo requests in a row after which a peer that does not answer them is
// down.
const maxMissed = 3

// maxUnanswered is the same for a peer from which other things come: it is there, but what we send
// does not arrive. So many in a row are not lost by chance: on a path that loses one datagram in
// five, a request or its answer is lost in 36 % of all cases, and 15 of them in a row less than
// once in two months if one is sent each second.
const maxUnanswered = 15

// liveness is the watch on a peer that is to be down soon after it stops answering.
type liveness struct {
	next   boottime.Time // of the next echo request; 0: none is due
	number uint32        // of the echo request that waits; 0: none
	missed int           // in a row, while nothing came
	since  boottime.Time // when the first of those missed was sent
	// In a row in the present session, whatever came, and when the first of them was sent.
	unanswered      int
	unansweredSince boottime.Time
}

// checkAlive sends p an echo request in each interval of its liveness, and declares it down when
// maxMissed of them had no answer while nothing else came either, or maxUnanswered whatever else
// came. A peer that is to be watched is to have a session, whether or not there is traffic. It
// returns when to look again; 0: when something happens.
func (x *Exchange) checkAlive(p *peer.Peer, s *state) (next boottime.Time) {
	every := p.Extension.Liveness()
	if every == 0 {
		s.live = liveness{}
		x.heardUs(p, s)
		return 0
	}
	if s.keypair == nil {
		s.live = liveness{}
		if p.Endpoint() != nil && !p.Timers.Handshaking() && !x.env.Link.KnownDown() {
			x.env.WantHandshake(p, x.now)
		}
		return x.now.Add(timers.RekeyTimeout)
	}
	if !x.answersEchoes(p, s) {
		s.live = liveness{}
		return s.keypair.Established.Add(timers.RejectAfterTime)
	}
	l := &s.live
	if l.next != 0 && x.now < l.next {
		return l.next
	}
	if l.number != 0 {
		x.missed(p, s, every)
	}
	l.number = x.sendEcho(p, s, EchoSize, func(time.Duration) {
		s.echoes.note(true)
		l.number, l.missed = 0, 0
	})
	l.next = x.now.Add(every)
	return l.next
}

// missed notes that the last echo request had no answer in its interval.
func (x *Exchange) missed(p *peer.Peer, s *state, every time.Duration) {
	l := &s.live
	e, waiting := s.echoes.take(l.number)
	if !waiting {
		return // the session has changed: nobody had to answer it
	}
	s.echoes.note(false)
	x.publish(p, s)
	if l.unanswered++; l.unanswered == 1 {
		l.unansweredSince = e.sentAt
	}
	if p.LastReceived() >= e.sentAt { // an answer may be late or lost, but the peer is there
		l.missed = 0
		if l.unanswered >= maxUnanswered && p.Deaf(l.unansweredSince, deafText(l.unanswered)) {
			x.lost(p)
		}
		return
	}
	if l.missed++; l.missed == 1 {
		l.since = e.sentAt
	}
	if l.missed < maxMissed {
		return
	}
	if p.Dead(l.since, fmt.Sprintf("no answer to %d echo requests, one every %v", maxMissed, every)) {
		x.lost(p)
	}
}

func deafText(requests int) string {
	return fmt.Sprintf("no answer to %d echo requests in a row, although the peer sends: what we send does not arrive there", requests)
}

// lost is called when p is found to be down.
func (x *Exchange) lost(p *peer.Peer) {
	x.env.WantHandshake(p, x.now) // it may be found at another endpoint
	x.env.SessionChanged(p)
}

// heardUs notes that p has answered an echo request, or is not watched any longer.
func (x *Exchange) heardUs(p *peer.Peer, s *state) {
	s.live.unanswered = 0
	if p.Hears() {
		x.env.SessionChanged(p)
	}
}

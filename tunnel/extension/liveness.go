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

// liveness is the watch on a peer that is to be down soon after it stops answering.
type liveness struct {
	next   boottime.Time // of the next echo request; 0: none is due
	number uint32        // of the echo request that waits; 0: none
	missed int           // in a row
	since  boottime.Time // when the first of those missed was sent
}

// checkAlive sends p an echo request in each interval of its liveness, and declares it down when
// maxMissed of them had no answer while nothing else came either. A peer that is to be watched is
// to have a session, whether or not there is traffic. It returns when to look again; 0: when
// something happens.
func (x *Exchange) checkAlive(p *peer.Peer, s *state) (next boottime.Time) {
	every := p.Extension.Liveness()
	if every == 0 {
		s.live = liveness{}
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
	if p.LastReceived() >= e.sentAt { // an answer may be late or lost, but the peer is there
		l.missed = 0
		return
	}
	if l.missed++; l.missed == 1 {
		l.since = e.sentAt
	}
	if l.missed < maxMissed {
		return
	}
	if p.Dead(l.since, fmt.Sprintf("no answer to %d echo requests, one every %v", maxMissed, every)) {
		x.env.WantHandshake(p, x.now) // it may be found at another endpoint
		x.env.SessionChanged(p)
	}
}

package extension

import (
	"fmt"
	"time"

	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
)

// Bounds on the requests without an answer after which a peer is down.
const (
	// maxMissed is the number of echo requests in a row after which a peer with liveness that does
	// not answer them is down, if nothing else has come either.
	maxMissed = 3
	// maxUnanswered is the same for a peer from which other things come: it is there, but what we
	// send does not arrive. So many in a row are not lost by chance: on a path that loses one
	// datagram in five, a request or its answer is lost in 36 % of all cases, and 15 of them in a
	// row less than once in two months if one is sent each second.
	maxUnanswered = 15
	// watchSize is the size of these requests and of the answers to them, in bytes of plaintext:
	// they become datagrams that are a little longer than the initiation of a handshake (148
	// bytes). A path that loses them carries no handshake and few packets, whatever else passes.
	watchSize = 128
	// watchDatagram is the size of those datagrams, in bytes of UDP payload.
	watchDatagram = watchSize + wire.TransportOverhead
)

// liveness is the watch on a peer that is to be down soon after it stops answering.
type liveness struct {
	asked  boottime.Time // when the last echo request was sent; 0: none was
	number uint32        // of the echo request that waits; 0: none
	missed int           // in a row, while nothing came
	since  boottime.Time // when the first of those missed was sent
	// In a row in the present session, whatever came, and when the first of them was sent.
	unanswered      int
	unansweredSince boottime.Time
	small           int           // answers to smaller requests meanwhile
	unheardAt       boottime.Time // when the peer last said that it does not hear us; 0: never
}

// pace is how a peer is watched: the interval of the echo requests, and how many of them in a row,
// in so many intervals, may have no answer while nothing else comes from it, or while other things
// do. While requests are lost, more of them are sent than one in each interval: one in each now.
type pace struct {
	every, now   time.Duration
	missed, deaf int
}

// paceOf returns how p is to be watched now; every is 0 if it is not. Otherwise next is when that
// may change; 0: when something happens.
func (x *Exchange) paceOf(p *peer.Peer, s *state) (w pace, next boottime.Time) {
	every := p.Extension.Liveness()
	w = pace{every, s.lossInterval(p, every), maxMissed, maxUnanswered}
	if doubted, at := x.doubted(p, s); !doubted {
		next = at
	} else if w.every == 0 || w.every > askAfter { // its own pace is the slower one
		w = pace{askEvery, askEvery, maxAsked, maxUnanswered}
	}
	if x.saidUnheard(s) {
		w.deaf = maxUnheard
	}
	return w, next
}

// checkAlive sends p an echo request in each interval of its liveness, or while it is in doubt
// whether p gets what is sent to it, and declares it down when too many of them had no answer. A
// peer with liveness is to have a session, whether or not there is traffic. It returns when to look
// again; 0: when something happens.
func (x *Exchange) checkAlive(p *peer.Peer, s *state) (next boottime.Time) {
	if s.keypair == nil {
		s.live = liveness{}
		x.forgetLoss(p, s)
		if p.Extension.Liveness() == 0 {
			return 0
		}
		if p.Endpoint() != nil && !p.Timers.Handshaking() && !x.env.Link.KnownDown() {
			x.env.WantHandshake(p, x.now)
		}
		return x.now.Add(timers.RekeyTimeout)
	}
	if !x.answersEchoes(p, s) {
		s.live = liveness{}
		return s.keypair.Established.Add(timers.RejectAfterTime)
	}
	w, next := x.paceOf(p, s)
	if p.Extension.Liveness() == 0 {
		x.forgetLoss(p, s)
	}
	if w.every == 0 {
		s.live = liveness{}
		return next
	}
	l := &s.live
	if due := l.asked.Add(w.now); l.asked != 0 && x.now < due {
		return earlier(due, next)
	}
	if l.number != 0 {
		x.missed(p, s, w)
	}
	l.number = x.sendEcho(p, s, watchSize, func(time.Duration) {
		s.echoes.note(true)
		s.noteLoss(request{l.number, l.asked}, true)
		l.number, l.missed = 0, 0
	})
	if l.unanswered > 0 { // is it the size?
		x.sendSmall(p, s, func(time.Duration) { l.small++ })
	}
	l.asked = x.now
	return earlier(x.now.Add(w.now), next)
}

// missed notes that the last echo request had no answer in its interval.
func (x *Exchange) missed(p *peer.Peer, s *state, w pace) {
	l := &s.live
	e, waiting := s.echoes.take(l.number)
	if !waiting {
		return // the session has changed: nobody had to answer it
	}
	s.echoes.note(false)
	if p.Extension.Liveness() != 0 {
		s.noteLoss(request{e.number, e.sentAt}, false)
	}
	x.publish(p, s)
	if l.unanswered++; l.unanswered == 1 {
		l.unansweredSince = e.sentAt
	}
	if p.LastReceived() >= e.sentAt { // an answer may be late or lost, but the peer is there
		l.missed = 0
		if why := x.whyDeaf(p, s, w); why != "" && p.Deaf(l.unansweredSince, why) {
			x.lost(p)
		}
		return
	}
	if l.missed++; l.missed == 1 {
		l.since = e.sentAt
	}
	if l.missed >= maxMissed && x.lasts(l.since, maxMissed, w) {
		x.sayUnheard(p)
	}
	if l.missed >= w.missed && x.lasts(l.since, w.missed, w) && p.Dead(l.since, missedText(p, l.missed, x.now.Sub(l.since))) {
		x.lost(p)
	}
}

// lasts reports whether requests have had no answer since the given time for so many intervals.
func (x *Exchange) lasts(since boottime.Time, intervals int, w pace) bool {
	return x.now.Sub(since) >= time.Duration(intervals)*w.every
}

// whyDeaf explains why what we send does not arrive at p, from which other things come; "" while
// that may be chance.
func (x *Exchange) whyDeaf(p *peer.Peer, s *state, w pace) string {
	l := &s.live
	switch {
	case l.unanswered >= maxBySize && l.small >= l.unanswered-2: // the first had none beside it
		return sizeText(p)
	case l.unanswered < w.deaf, !x.lasts(l.unansweredSince, w.deaf, w):
		return ""
	case x.saidUnheard(s):
		return unheardText(p)
	}
	return fmt.Sprintf("no answer to %d echo requests in a row, although the peer sends: what we send does not arrive there", l.unanswered)
}

// lost is called when p is found to be down.
func (x *Exchange) lost(p *peer.Peer) {
	x.env.WantHandshake(p, x.now) // it may be found at another endpoint
	x.env.SessionChanged(p)
}

// heardUs notes that p has answered an echo request of the size of those by which it is watched, or
// is not watched any longer.
func (x *Exchange) heardUs(p *peer.Peer, s *state) {
	s.live.unanswered, s.live.small, s.live.unheardAt = 0, 0, 0
	p.Extension.NoteHeard()
	if p.Hears() {
		x.env.SessionChanged(p)
	}
}

package extension

import (
	"math/bits"
	"time"

	"tund/internal/boottime"
	"tund/tunnel/peer"
)

// A path that loses some of what is sent over it is named by the requests of liveness that have no
// answer. Peers without liveness are not asked for it, and plain WireGuard peers answer nothing.
const (
	// lossWindow is the number of the last requests by which the path is judged.
	lossWindow = 32
	// lossEvery is the shortest interval of the requests while one of them was lost: at the pace of
	// liveness, it would take half a minute to tell a bad path from bad luck.
	lossEvery = 250 * time.Millisecond
	// lossPace is how many times as many requests as otherwise are sent then, at most.
	lossPace = 8
	// namedLost is how many requests of the window have to be lost before the path is said to
	// lose datagrams, and namedRuns in how many places, with answered ones between them: an
	// interruption, however long, is one run. Where two requests in a hundred are lost, so many in
	// one window are once in a day or two.
	namedLost = 5
	namedRuns = 3
	// forgivenLost is how many may be lost when that is over.
	forgivenLost = 1
	// lossStep is by how much the share has to change before another one is said.
	lossStep = 0.15
)

// losses is what became of the last requests of liveness to a peer, since one of them was lost.
type losses struct {
	requests [lossWindow]request // newest first
	answered uint32              // one bit each, newest in the lowest
	known    int
	named    float64 // the share that is said to be lost; 0: the path is not said to lose anything
}

// request is one of them.
type request struct {
	number uint32
	sentAt boottime.Time
}

// note records whether a request was answered.
func (l *losses) note(r request, answered bool) {
	copy(l.requests[1:], l.requests[:])
	l.requests[0] = r
	l.answered <<= 1
	if answered {
		l.answered |= 1
	}
	l.known = min(l.known+1, lossWindow)
	l.judge()
}

// late records that the request with a number was answered after it had been taken to be lost, and
// returns when it was sent; 0: it is not known.
func (l *losses) late(number uint32) (sentAt boottime.Time) {
	for i, r := range l.requests[:l.known] {
		if r.number == number {
			l.answered |= 1 << i
			l.judge()
			return r.sentAt
		}
	}
	return 0
}

// lost returns how many requests were lost, and in how many runs.
func (l *losses) lost() (requests, runs int) {
	lost := ^l.answered & (1<<l.known - 1)
	return bits.OnesCount32(lost), bits.OnesCount32(lost &^ (lost << 1))
}

func (l *losses) judge() {
	lost, runs := l.lost()
	share := float64(lost) / float64(l.known)
	switch {
	case lost <= forgivenLost:
		l.named = 0
	case l.named == 0 && (lost < namedLost || runs < namedRuns):
	case share-l.named > lossStep || l.named-share > lossStep:
		l.named = share
	}
}

// noteLoss records whether a peer answered a request of liveness.
func (s *state) noteLoss(r request, answered bool) {
	if s.loss == nil {
		if answered {
			return
		}
		s.loss = new(losses)
	}
	s.loss.note(r, answered)
	s.forgive()
}

// lateLoss records that a peer has answered a request that was taken to be lost, and for how long
// that took, so that the next requests are given the time.
func (s *state) lateLoss(number uint32, at boottime.Time) {
	if s.loss == nil {
		return
	}
	if sentAt := s.loss.late(number); sentAt != 0 {
		s.echoes.measured(at.Sub(sentAt))
	}
	s.forgive()
}

// forgive forgets the requests when none of them is known to be lost.
func (s *state) forgive() {
	if lost, _ := s.loss.lost(); lost == 0 {
		s.loss = nil
	}
}

// namedLoss returns the share of datagrams that the path is said to lose; 0: none.
func (s *state) namedLoss() float64 {
	if s.loss == nil {
		return 0
	}
	return s.loss.named
}

// forgetLoss forgets what became of the requests to p, which is not watched any longer.
func (x *Exchange) forgetLoss(p *peer.Peer, s *state) {
	if s.loss != nil {
		s.loss = nil
		x.publish(p, s)
	}
}

// lossInterval returns in which interval a peer is to be asked that is otherwise asked in the given
// one: a shorter one while requests are lost, but never before there can be an answer.
func (s *state) lossInterval(p *peer.Peer, every time.Duration) time.Duration {
	if s.loss == nil || p.IsDead() {
		return every
	}
	return min(every, max(lossEvery, every/lossPace, 4*s.echoes.rtt))
}

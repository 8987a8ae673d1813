package extension

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/peer"
)

// Bounds on echo requests.
const (
	// maxEchoes is the number of echo requests to one peer that wait for their replies. The oldest
	// make room for new ones.
	maxEchoes = 48
	// maxLate is the number of requests after one whose reply, however late, is still believed to
	// answer it.
	maxLate = 1000
	// maxPings is the number of requests of operators that wait for Run, and for one peer.
	maxPings = 16
	// MaxPingSize is the size of the longest plaintext of a ping, in bytes.
	MaxPingSize = 9000
)

// echo is an echo request that waits for its reply.
type echo struct {
	number uint32
	size   int // bytes of plaintext
	sentAt boottime.Time
	// What to do with the round trip, on the goroutine of Run; nil: nothing.
	answered func(rtt time.Duration)
}

// echoes are the echo requests to one peer that wait, in the order in which they were sent, and
// what became of the last ones.
type echoes struct {
	waiting []echo
	last    uint32 // number of the newest
	rtt     time.Duration
	// Whether the last requests were answered, newest in the lowest bit, and how many are known.
	history uint32
	known   int
}

// clear forgets the requests that wait, which are neither answered nor lost.
func (e *echoes) clear() { clear(e.waiting); e.waiting = e.waiting[:0] }

// add notes a new request and returns its number.
func (e *echoes) add(size int, now boottime.Time, answered func(time.Duration)) uint32 {
	if len(e.waiting) == maxEchoes {
		e.waiting = append(e.waiting[:0], e.waiting[1:]...)
	}
	e.last++
	e.waiting = append(e.waiting, echo{e.last, size, now, answered})
	return e.last
}

// take removes and returns the request with a number.
func (e *echoes) take(number uint32) (found echo, ok bool) {
	for i, w := range e.waiting {
		if w.number == number {
			e.waiting = append(e.waiting[:i], e.waiting[i+1:]...)
			return w, true
		}
	}
	return echo{}, false
}

// note records whether a request was answered.
func (e *echoes) note(answered bool) {
	e.history <<= 1
	if answered {
		e.history |= 1
	}
	e.known = min(e.known+1, 32)
}

// measured takes a round trip into the average (RFC 6298 §2).
func (e *echoes) measured(rtt time.Duration) {
	if e.rtt == 0 {
		e.rtt = rtt
		return
	}
	e.rtt += (rtt - e.rtt) / 8
}

// loss returns the share of the last requests that were not answered, 0 to 1.
func (e *echoes) loss() float64 {
	if e.known == 0 {
		return 0
	}
	answered := bits.OnesCount32(e.history & (1<<e.known - 1))
	return float64(e.known-answered) / float64(e.known)
}

// publish shows round trip and loss in status.
func (x *Exchange) publish(p *peer.Peer, s *state) {
	p.SetReport(&peer.PathReport{RTT: s.echoes.rtt, Loss: s.echoes.loss(), Lossy: s.namedLoss()})
}

// answersEchoes reports whether p answers echo requests now.
func (x *Exchange) answersEchoes(p *peer.Peer, s *state) bool {
	return s.keypair != nil && Features(p.Extension.Features())&FeatureEcho != 0
}

// sendEcho sends an echo request with a plaintext of size bytes, at least EchoSize.
func (x *Exchange) sendEcho(p *peer.Peer, s *state, size int, answered func(time.Duration)) (number uint32) {
	number = s.echoes.add(size, x.now, answered)
	var body [echoRequestLen]byte
	x.send(p, TypeEchoRequest, EchoRequest{number, uint64(x.now)}.Append(body[:0]), size)
	return number
}

// sendSmall sends the smallest echo request there is, alone. Sent together with a larger one, both
// would be one packet for the firewalls of the hosts at either end (UDP_SEGMENT).
func (x *Exchange) sendSmall(p *peer.Peer, s *state, answered func(time.Duration)) {
	x.out.Flush(x.now)
	x.sendEcho(p, s, EchoSize, answered)
	x.out.Flush(x.now)
}

// echoRequest answers an echo request of a peer.
func (x *Exchange) echoRequest(m *Message) drop.Reason {
	e, ok := ParseEchoRequest(m.Body)
	if !ok {
		return drop.BadInnerPacket
	}
	var body [echoReplyLen]byte
	x.send(m.Peer, TypeEchoReply, EchoReply{e, uint32(m.Size)}.Append(body[:0]), min(m.Size, watchSize))
	return drop.None
}

// echoReply takes the reply to an echo request of ours. One that says something else than what was
// asked is dropped: a peer can lie about its own path only.
func (x *Exchange) echoReply(m *Message) drop.Reason {
	r, ok := ParseEchoReply(m.Body)
	s := x.states[m.Peer]
	if !ok || s == nil || s.watch == nil {
		return drop.BadInnerPacket
	}
	e, ok := s.echoes.take(r.Number)
	switch {
	case !ok: // it came too late, and shows all the same that requests arrive
		s.lateLoss(r.Number, m.At)
		if s.echoes.last-r.Number < maxLate && r.Size >= watchSize {
			x.heardUs(m.Peer, s)
		}
		return drop.None
	case r.Clock != uint64(e.sentAt) || int(r.Size) != e.size:
		return drop.BadInnerPacket
	}
	rtt := max(m.At.Sub(e.sentAt), time.Microsecond)
	s.echoes.measured(rtt)
	if e.size >= watchSize {
		x.heardUs(m.Peer, s)
	}
	if e.answered != nil {
		e.answered(rtt)
	}
	x.publish(m.Peer, s)
	x.Later(m.Peer, x.now)
	return drop.None
}

// Echo is what became of a ping.
type Echo struct {
	RTT  time.Duration
	Size int   // bytes of plaintext
	Err  error // why there is none
}

// Why a ping has no answer.
var (
	errNoExtensions = errors.New("it is not asked for extensions (extensions = \"off\")")
	errNotTund      = errors.New("it has answered no hello: it does not run tund, runs an old version, or has extensions = \"off\"")
	errNoSession    = errors.New("no session")
	errLost         = errors.New("no answer")
	errBusy         = errors.New("too many pings at once")
)

// NoEcho reports whether err says that the peer does not take part in echo requests at all.
func NoEcho(err error) bool { return errors.Is(err, errNoExtensions) || errors.Is(err, errNotTund) }

// ping is the request of an operator for one echo.
type ping struct {
	peer   *peer.Peer
	size   int
	until  boottime.Time
	number uint32    // of the echo request; 0: not sent yet
	done   bool      // the result was reported; belongs to Run
	result chan Echo // capacity 1
}

// end reports the result to whoever asked, on the goroutine of Run.
func (o *ping) end(e Echo) {
	e.Size, o.done = o.size, true
	select {
	case o.result <- e:
	default:
	}
}

// Ping sends p an echo request whose plaintext has the given size in bytes, and waits for the
// answer for at most the given time. Without a session it asks for one first.
func (x *Exchange) Ping(ctx context.Context, p *peer.Peer, size int, wait time.Duration) Echo {
	o := &ping{peer: p, size: min(max(size, EchoSize), MaxPingSize), until: x.env.Clock.Now().Add(wait), result: make(chan Echo, 1)}
	select {
	case x.pings <- o:
	default:
		return Echo{Err: errBusy}
	}
	select {
	case e := <-o.result:
		return e
	case <-ctx.Done():
		return Echo{Err: ctx.Err()}
	case <-x.env.Stop:
		return Echo{Err: errNoSession}
	}
}

// beginPing takes the request of an operator.
func (x *Exchange) beginPing(o *ping) {
	p := o.peer
	if p.Removed() || p.Extension.Mode() == peer.ExtensionsOff {
		o.end(Echo{Err: errNoExtensions})
		return
	}
	s := x.stateOf(p)
	s.watched()
	s.pings = slices.DeleteFunc(s.pings, func(o *ping) bool { return o.done })
	if len(s.pings) == maxPings {
		o.end(Echo{Err: errBusy})
		return
	}
	s.pings = append(s.pings, o)
	x.followSession(p, s)
	if s.keypair == nil {
		x.env.WantHandshake(p, x.now)
	}
	x.Later(p, x.now)
}

// checkPings sends the pings that can be sent and ends those that take too long. It returns when to
// look again; 0: when something happens.
func (x *Exchange) checkPings(p *peer.Peer, s *state) (next boottime.Time) {
	kept := s.pings[:0]
	for _, o := range s.pings {
		if x.checkPing(p, s, o) {
			kept = append(kept, o)
			next = earlier(next, o.until)
		}
	}
	clear(s.pings[len(kept):])
	s.pings = kept
	return next
}

// checkPing handles one ping, and reports whether it still waits.
func (x *Exchange) checkPing(p *peer.Peer, s *state, o *ping) bool {
	switch {
	case o.done:
		return false // answered
	case o.until <= x.now && o.number != 0:
		s.echoes.take(o.number)
		s.echoes.note(false)
		x.publish(p, s)
		o.end(Echo{Err: errLost})
		return false
	case o.until <= x.now:
		o.end(Echo{Err: x.whyNoSession(p, s)})
		return false
	case o.number != 0:
	case x.answersEchoes(p, s):
		o.number = x.sendEcho(p, s, o.size, func(rtt time.Duration) {
			s.echoes.note(true)
			o.end(Echo{RTT: rtt})
		})
	case s.keypair != nil && s.helloAt == 0:
		o.end(Echo{Err: errNotTund})
		return false
	}
	return true
}

// whyNoSession explains why a ping was not sent.
func (x *Exchange) whyNoSession(p *peer.Peer, s *state) error {
	if s.keypair != nil {
		return errNotTund
	}
	if p.Endpoint() == nil {
		return fmt.Errorf("%w, and its endpoint is not known", errNoSession)
	}
	return errNoSession
}

package extension

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/tunnel/peer"
)

// Bytes around a plaintext in an IP packet.
const (
	overIPv4 = 20 + 8 + wire.TransportOverhead
	overIPv6 = 40 + 8 + wire.TransportOverhead
)

// defaultTop is the MTU assumed for an interface that is not known.
const defaultTop = 1500

// SetInterfaceMTUs tells the MTUs of the interfaces by which endpoints are reached. The map must
// not change afterwards. Any goroutine may call it.
func (x *Exchange) SetInterfaceMTUs(mtus map[netip.Addr]int) { x.interfaces.Store(&mtus) }

// OnPath has f called, on the goroutine of Run, when the path MTU of a peer has changed. It must
// not block. It is called before Run.
func (x *Exchange) OnPath(f func()) { x.pathChanged = f }

// topOf returns the MTU of the interface by which an endpoint is reached, in bytes.
func (x *Exchange) topOf(to netip.Addr) int {
	if m := x.interfaces.Load(); m != nil {
		if mtu := (*m)[to]; mtu > 0 {
			return mtu
		}
	}
	return defaultTop
}

// PathInUse is called by lanes when large packets are sent to p again, so that a path that has
// become narrower is noticed. It does not block.
func (x *Exchange) PathInUse(p *peer.Peer) { x.due.Arm(p.ExtensionDeadline(), atOnce) }

// pathState is the path MTU of a peer, and the search for it.
type pathState struct {
	search
	to       netip.Addr // the endpoint
	overhead int        // around a plaintext, in bytes
}

// checkPath continues the search for the path MTU of p. It returns when to look again; 0: when
// something happens.
func (x *Exchange) checkPath(p *peer.Peer, s *state) (next boottime.Time) {
	t := &s.path
	ep := p.Endpoint()
	if ep == nil || !x.answersEchoes(p, s) {
		return 0
	}
	if to, top := ep.Addr.Addr(), x.topOf(ep.Addr.Addr()); to != t.to || within(top) != t.top {
		t.to, t.overhead = to, overIPv6
		if to.Is4() {
			t.overhead = overIPv4
		}
		t.reset(top)
		x.publishPath(p, s)
	}
	if t.goal != rest {
		if x.now < t.until {
			return t.until
		}
		x.proceed(p, s)
	}
	if t.goal == rest {
		if x.now < t.next {
			if p.Extension.Large() || t.known == floorMTU && !t.proven {
				return t.next
			}
			return 0
		}
		x.probe(p, s, t.begin(x.now, t.waitFor(s), p.Extension.TakeLarge()))
	}
	return t.until
}

// waitFor returns how long to wait for the answer to a probe.
func (t *pathState) waitFor(s *state) time.Duration {
	if s.echoes.rtt == 0 {
		return maxProbeWait / 2
	}
	return min(max(4*s.echoes.rtt, minProbeWait), maxProbeWait)
}

// proceed takes the next step of a search.
func (x *Exchange) proceed(p *peer.Peer, s *state) {
	t := &s.path
	confirming := t.goal == confirm
	sizes, small, changed := t.proceed(x.now, t.waitFor(s))
	if confirming && !small {
		s.echoes.note(!changed)
	}
	if changed {
		x.publishPath(p, s)
	}
	x.probe(p, s, sizes)
	if small {
		x.sendSmall(p, s, func(time.Duration) { t.answered(0) })
	}
}

// probe sends probes. Those that the interface does not take are left out.
func (x *Exchange) probe(p *peer.Peer, s *state, sizes []probe) {
	t := &s.path
	var refused []int
	for _, pr := range sizes {
		size := pr.size
		number := s.echoes.add(size-t.overhead, x.now, func(time.Duration) {
			if t.answered(size) {
				t.until = x.now // all are answered
			}
		})
		var body [echoRequestLen]byte
		if t.goal == least { // as packets leave, which routers may fragment
			x.send(p, TypeEchoRequest, EchoRequest{number, uint64(x.now)}.Append(body[:0]), size-t.overhead)
			continue
		}
		x.scratch = AppendMessage(x.scratch[:0], TypeEchoRequest, EchoRequest{number, uint64(x.now)}.Append(body[:0]))
		x.scratch = append(x.scratch, make([]byte, size-t.overhead-len(x.scratch))...)
		if err := x.out.Probe(p, x.scratch, x.now); errors.Is(err, unix.EMSGSIZE) {
			s.echoes.take(number)
			refused = append(refused, size)
		}
	}
	for _, size := range refused {
		t.refused(size)
	}
	if len(refused) > 0 && len(t.probes) == 0 {
		t.until = x.now
	}
}

// publishPath lets lanes and status know what is known of the path.
func (x *Exchange) publishPath(p *peer.Peer, s *state) {
	limit := 0
	if t := &s.path; t.known != 0 && t.known < maxProbeMTU {
		limit = t.known - t.overhead
	}
	if p.SetPath(s.path.known, limit, s.path.narrow) && x.pathChanged != nil {
		x.pathChanged()
	}
}

// forgetPath ends the search for the path MTU of a peer that answers no echo requests any more.
func (x *Exchange) forgetPath(p *peer.Peer, s *state) {
	if s.watch == nil {
		return // nothing was ever known of the path
	}
	s.path = pathState{}
	x.publishPath(p, s)
}

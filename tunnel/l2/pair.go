package l2

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
)

// Pairs: two peers that may serve the same LAN. See loop.go for the background.
//
// A suspicion arises when, within suspectTime, a genuine probe of each of the two peers has been
// received from the other. We then request a join test (controlJoinTest) from both: each sends to
// its LAN an ARP probe (RFC 5227 §2.1.1) whose source MAC we choose and which cannot be told apart
// from a host's. If it comes back from the other peer, broadcasts demonstrably get from the first
// LAN to the second. Once both directions are proven, one port is blocked. The proof is renewed
// every retestTime and is valid for proofTime; in between, the loop probes keep the block in place.
//
// Peers whose version does not support tags do not support join tests either; their probes are
// believed without one.
const (
	suspectTime = holdTime
	// Tolerates the loss of two probes in each direction, and the next is not yet due.
	quietTime = 2200 * time.Millisecond
	// The same for probes that arrive at quickInterval.
	quickQuiet = quietTime * quickInterval / ProbeInterval
	// Copies of one probe by several paths arrive within this time.
	copyTime = 150 * time.Millisecond

	testRetry  = 500 * time.Millisecond // between the first fastTests tests without a proof
	testSlow   = 10 * time.Second       // between later tests
	fastTests  = 4
	retestTime = 30 * time.Second
	proofTime  = 100 * time.Second // three tests in a row may be lost
	longGaps   = 8
	// Two rounds of the probes of a switch at rest, of 64 intervals each if it has all VLANs.
	neighbourTime = 2 * (restInterval + (maxVID+1)/maxProbedVLANs*ProbeInterval)
	maxSeenBy     = 256  // suspicions that one port may raise: four gateways in 64 VLANs
	testMACByte   = 0x02 // locally administered, unicast
)

// testRate limits the join tests that a peer may request from us: each is a broadcast on our LAN.
var testRate = limit.PerSecond(16, 256)

// pairKey identifies two ports, low < high, and the local VLAN that their LANs share.
type pairKey struct {
	low, high PortID
	vid       uint16
}

func (k pairKey) port(i int) PortID { return [2]PortID{k.low, k.high}[i] }

// pair is the state of two ports. Index 0 is the low port, index 1 the high one.
type pair struct {
	// When the other peer's probe last arrived at this port; 0: not recently.
	seen   [2]boottime.Time
	rhythm [2]rhythm        // of these probes
	proven [2]boottime.Time // when the test requested from this port came back through the other
	// Source MAC of the test requested from this port that has not come back yet.
	test  [2]MAC
	askAt boottime.Time // when the next tests are due
	tries int           // tests since the last proof

	suspected boottime.Time // when a host was last seen at both ports; 0: not recently
	suspector PortID        // whose claim said so first
}

// rhythm is the interval at which probes arrive.
type rhythm struct {
	// Outages excluded; 0: unknown. Of the last three the one in the middle, so that a single probe
	// that is late, or comes soon after a late one, changes nothing.
	gap  time.Duration
	last [2]time.Duration // the two before the last interval; 0: there was none
	long int              // consecutive intervals that were far longer
}

// quietAfter returns the time for which probes have to be missing before packet loss no longer
// explains it. With many VLANs, which are probed in turn, the expected interval is longer.
func (r *rhythm) quietAfter() time.Duration {
	if r.gap != 0 && r.gap <= (quickInterval+ProbeInterval)/2 {
		return max(quickQuiet, 2*r.gap)
	}
	return min(max(quietTime, 2*r.gap), holdTime)
}

// quiet reports whether both probes have been missing for longer than packet loss explains. What
// arrived while we ourselves stood still counts from late on, the end of that time.
func (p *pair) quiet(now, late boottime.Time) bool {
	return now > p.quietAt(late)
}

// quietAt returns the moment after which both probes have been missing for that long, if none
// arrives until then.
func (p *pair) quietAt(late boottime.Time) boottime.Time {
	limit := max(p.rhythm[0].quietAfter(), p.rhythm[1].quietAfter())
	return max(p.seen[0], p.seen[1], late).Add(limit)
}

// follow records the interval between two probes. An interval far longer than the
// previous ones is taken for an outage, unless many follow in a row: then the VLANs have come to be
// probed in turn. ProbeInterval is never an outage: where probes came more often, the peer may have
// returned to it.
func (r *rhythm) follow(gap time.Duration) {
	if gap <= copyTime {
		return // the same probe by another path
	}
	if r.gap != 0 && gap > max(2*r.gap, ProbeInterval+ProbeInterval/4) {
		if r.long++; r.long < longGaps {
			return
		}
		r.last = [2]time.Duration{}
	}
	r.gap, r.long = gap, 0
	if a, b := r.last[0], r.last[1]; a != 0 && b != 0 {
		r.gap = max(min(a, b), min(max(a, b), gap))
	}
	r.last = [2]time.Duration{r.last[1], gap}
}

// sighted records that a genuine probe of the peer at port origin arrived at port by, and blocks
// one of the two if they are known to serve the same LAN. It reports whether there is work for
// Tick. mu is held.
func (s *Switch) sighted(now boottime.Time, origin, by PortID, vid uint16) (wake bool) {
	key, i := pairKey{origin, by, vid}, 1
	if by < origin {
		key, i = pairKey{by, origin, vid}, 0
	}
	p := s.pairs[key]
	if p == nil || p.seen[i] == 0 {
		if s.ports[by].seenBy >= maxSeenBy {
			return false
		}
		s.ports[by].seenBy++
		if p == nil {
			p = &pair{}
			s.pairs[key] = p
		}
	} else {
		p.rhythm[i].follow(now.Sub(p.seen[i]))
	}
	p.seen[i] = now
	if other := p.seen[1-i]; other == 0 || now.Sub(other) > suspectTime {
		return false
	}
	asked := s.test(now, key, p)
	return s.cut(now, key, p) || asked
}

// test requests join tests from both peers if they are due. mu is held.
func (s *Switch) test(now boottime.Time, key pairKey, p *pair) (asked bool) {
	if now.Before(p.askAt) {
		return false
	}
	p.tries++
	switch {
	case s.isProven(now, key, p):
		p.askAt = now.Add(retestTime)
	case p.tries < fastTests:
		p.askAt = now.Add(testRetry)
	default:
		p.askAt = now.Add(testSlow)
	}
	for i := range p.test {
		id := key.port(i)
		if wire, ok := s.view.Load().port(id).vlans.wire(key.vid); ok && s.ports[id].peer.keyed {
			delete(s.tests, p.test[i])
			p.test[i] = s.newTestMAC()
			s.tests[p.test[i]] = key
			b := appendControl(nil, controlJoinTest, joinTestLen)
			b = binary.BigEndian.AppendUint16(b, wire)
			b = append(b, 0, 0, 0, 0, 0, 0)
			p.test[i].Put(b[len(b)-6:])
			s.toPeer(id, b)
			asked = true
		}
	}
	return asked
}

// isProven reports whether a test has succeeded in each direction, counting only peers that support
// join tests. mu is held.
func (s *Switch) isProven(now boottime.Time, key pairKey, p *pair) bool {
	for i, at := range p.proven {
		if s.ports[key.port(i)].peer.keyed && (at == 0 || now.Sub(at) > proofTime) {
			return false
		}
	}
	return true
}

// cut blocks one port of the pair, or extends its block, if the join is proven. It reports whether
// the block is new. mu is held.
func (s *Switch) cut(now boottime.Time, key pairKey, p *pair) (fresh bool) {
	if p.seen[0] == 0 || p.seen[1] == 0 || !s.isProven(now, key, p) || s.cutOff(now, key, p) {
		return false
	}
	stays, goes := s.rank(key)
	if !s.block(now, block{port: goes, vid: key.vid, cause: stays, other: stays}) {
		return false
	}
	s.stale = append(s.stale, stale{port: stays, vid: key.vid, claims: true})
	s.tellCut(stays, key.vid, cutActive)
	s.tellCut(goes, key.vid, cutStandby)
	return true
}

// rank returns which port of a pair stays open: the one whose peer has the lesser public key, which
// is the same at all sites. If a key is unknown, the node names decide. mu is held.
func (s *Switch) rank(key pairKey) (stays, goes PortID) {
	a, b := s.ports[key.low], s.ports[key.high]
	order := cmp.Compare(a.peer.node, b.peer.node)
	if none := [32]byte{}; a.cfg.PublicKey != none && b.cfg.PublicKey != none {
		order = bytes.Compare(a.cfg.PublicKey[:], b.cfg.PublicKey[:])
	}
	if order > 0 {
		return key.high, key.low
	}
	return key.low, key.high
}

// cutOff reports whether the gateway in use has lost its way to us, although it still serves its
// LAN, so that the other gateway goes on passing its probes: the probes that it should pass on are
// missing, and nothing else has come from it either. mu is held.
func (s *Switch) cutOff(now boottime.Time, key pairKey, p *pair) bool {
	stays, _ := s.rank(key)
	at := s.cutOffAt(key, p, stays)
	return at != 0 && now > at
}

// cutOffAt returns the moment after which cutOff reports true, if nothing arrives until then from
// the peer at port stays; 0: never. mu is held.
func (s *Switch) cutOffAt(key pairKey, p *pair, stays PortID) boottime.Time {
	i := 0
	if key.port(1) == stays {
		i = 1
	}
	if s.heard == nil || p.rhythm[i].gap == 0 {
		return 0
	}
	return max(p.seen[i], s.heard(stays), s.lateAt).Add(p.rhythm[i].quietAfter())
}

// SetHeard names the function that tells when anything was last received from the peer of a port.
// It is called with a lock held: it must be quick, and take none itself. Call SetHeard before the
// switch is used.
func (s *Switch) SetHeard(heard func(PortID) boottime.Time) { s.heard = heard }

// agePairs discards old sightings and opens the blocked port of a pair whose probes have stopped.
// It returns when to look again: as soon as they can have stopped, since hosts wait for that; 0:
// not before the next tick. mu is held.
func (s *Switch) agePairs(now boottime.Time) (next boottime.Time) {
	look := func(at boottime.Time) {
		if at = at.Add(1); now.Before(at) && (next == 0 || at.Before(next)) {
			next = at
		}
	}
	for key, p := range s.pairs {
		stays, goes := s.rank(key)
		look(p.quietAt(s.lateAt))
		look(s.cutOffAt(key, p, stays))
		if p.quiet(now, s.lateAt) || s.cutOff(now, key, p) {
			s.unblock(now, func(b *block) bool {
				if b.port != goes || b.vid != key.vid || b.cause != stays {
					return false
				}
				// This gateway may be down: flood for its hosts on both paths.
				s.stale = append(s.stale, stale{port: stays, vid: key.vid})
				return true
			})
		}
		for i, at := range p.seen {
			if at != 0 && now.Sub(at) > holdTime {
				p.seen[i] = 0
				s.ports[key.port(i)].seenBy--
			}
		}
		if p.suspected != 0 && now.Sub(p.suspected) > holdTime {
			s.ports[p.suspector].seenBy--
			p.suspected = 0
		}
		if p.seen == [2]boottime.Time{} && p.suspected == 0 {
			s.forgetPair(key, p)
		}
	}
	return next
}

// forgetPairs discards all pairs of a port. mu is held.
func (s *Switch) forgetPairs(id PortID) {
	for key, p := range s.pairs {
		if key.low == id || key.high == id {
			s.forgetPair(key, p)
		}
	}
}

func (s *Switch) forgetPair(key pairKey, p *pair) {
	for i, at := range p.seen {
		if at != 0 {
			s.ports[key.port(i)].seenBy--
		}
		delete(s.tests, p.test[i])
	}
	if p.suspected != 0 {
		s.ports[p.suspector].seenBy--
	}
	delete(s.pairs, key)
}

// tellCut tells the peer at a port what role it has for us in a VLAN. mu is held.
func (s *Switch) tellCut(id PortID, vid uint16, state byte) {
	p := s.view.Load().port(id)
	if p == nil || !p.ready {
		return
	}
	if wire, ok := p.vlans.wire(vid); ok {
		b := appendControl(nil, controlCut, cutLen)
		s.toPeer(id, append(b, byte(wire>>8), byte(wire), state))
	}
}

// hasNeighbour reports whether another switch has lately sent probes on our LAN. Without any, there
// is no other gateway, whatever a peer says. mu is held.
func (s *Switch) hasNeighbour(now boottime.Time, vid uint16) bool {
	at := s.lanProbes[vid]
	return at != 0 && now.Sub(at) <= neighbourTime
}

// flushRate limits how often one peer may be the reason for which the bridge of the TAP forgets
// what it has learned there. Until the hosts of all peers have been heard again, what is sent to
// them goes to every port of the bridge. Gateways change in maxProbedVLANs at once.
var flushRate = limit.Each(5*time.Second, maxProbedVLANs)

// flushBridge asks the bridge of the TAP to forget the hosts of the peer at a port. mu is held.
func (s *Switch) flushBridge(now boottime.Time, id PortID) {
	if p := s.ports[id]; p != nil && (s.queue.Flush || p.state.flushes.Take(now, 1, flushRate)) {
		s.queue.Flush = true
	}
}

// takeCut handles a peer's message about our own role in a VLAN: one of two gateways of our LAN, or
// again the only one. The entries of hosts that looping copies have moved from this peer to our TAP
// are discarded. The peer has no say about hosts that were elsewhere before; their own peers send
// us the same message. A peer that lies only has the entry discarded of a host that was at its own
// port until the TAP took it back.
func (s *Switch) takeCut(now boottime.Time, p *port, body []byte) drop.Reason {
	if len(body) < cutLen {
		return drop.BadInnerPacket
	}
	vid, ok := p.vlans.fromWire(binary.BigEndian.Uint16(body))
	if !ok {
		return drop.VLANRefused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.ports[p.id]
	if sp == nil || !sp.carries() {
		return drop.NotEthernetPeer
	}
	since := max(now.Add(-suspectTime), 0)
	began, standby := sp.standby[vid]
	if body[2] != cutOpen && !standby && !sp.active[vid] && s.hasNeighbour(now, vid) {
		s.stale = append(s.stale, stale{port: LocalPort, vid: vid, stations: true})
	}
	if body[2] != cutActive {
		delete(sp.active, vid)
	}
	switch {
	case body[2] == cutStandby && !standby:
		if sp.standby == nil {
			sp.standby = make(map[uint16]boottime.Time) // at most one entry per VLAN
		}
		sp.standby[vid] = now
		if s.hasNeighbour(now, vid) {
			s.flushBridge(now, p.id) // the peer's hosts are reached through the other gateway
		}
		s.event(now, Event{Kind: EventStandby, Port: p.id, VLAN: vid})
	case body[2] == cutActive:
		if sp.active == nil {
			sp.active = make(map[uint16]bool) // at most one entry per VLAN
		}
		sp.active[vid] = true
	case body[2] == cutOpen && standby:
		delete(sp.standby, vid)
		since = began
		s.groups.unsure(now, p.id)
		if s.hasNeighbour(now, vid) {
			s.doubtHosts(vid, p.id)
		}
		s.event(now, Event{Kind: EventStandbyEnd, Port: p.id, VLAN: vid})
	}
	s.stale = append(s.stale, stale{port: LocalPort, vid: vid, moved: true, since: second(since), by: p.id})
	return drop.None
}

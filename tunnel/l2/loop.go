package l2

import (
	"slices"
	"time"

	"tund/internal/boottime"
	"tund/internal/limit"
)

// Loop guard: detection of sites that are also connected outside the tunnel.
//
// Every switch sends loop probes out of its TAP, untagged and in each VLAN that some peer carries
// (probe.go): once per restInterval as long as nothing looks like a loop, otherwise once per
// ProbeInterval, and once per quickInterval if it is one of two gateways (proberate.go). Where a
// probe reappears shows how the LANs are connected:
//
//	whose probe   seen at    meaning                                 port blocked in that VLAN
//	a peer's      our TAP    the peer and we serve the same LAN      the peer's
//	peer O's      peer P     O and P may serve the same LAN          one of the two, if proven
//	ours          peer P     P serves our LAN and does not know it   P's
//	ours          our TAP    the LAN itself contains a loop          none; an event reports it
//
// The TAP itself is never blocked: a probe that arrives there may have been carried by anybody who
// has hosts on two LANs.
//
// # Two gateways of one LAN
//
// Gateways that receive each other's probes block each other's port, so that no frame circulates
// between them. The other sites still have two paths to that LAN. For them, a gateway relays a
// peer's genuine probe that arrives at its TAP to its other peers, so that once per ProbeInterval
// they receive O's probe from P and P's probe from O. This is only a suspicion, because an attacker
// can arrange for the probes of others to be carried elsewhere. A site that receives both probes
// therefore tests the join itself (pair.go): it asks O to send to O's LAN a frame that looks like
// an ordinary host's ARP request, and asks P for another one. The join is proven when O's frame
// comes back from P and P's frame comes back from O. The site then blocks the port of the peer with
// the greater public key. All sites come to the same result, and no peer can influence it. An
// attacker who wants to provoke such a block without a link between the LANs has to carry all
// broadcasts from each to the other, and then there really is a loop.
//
// The site tells both gateways what it has done (controlCut). They report it to their operators
// and, like the site itself, discard the entries of hosts that looping copies had moved to the
// wrong port.
//
// The block ends immediately when the peer that stayed in use leaves or its session ends, or when
// neither probe has been received for quickQuiet (the gateway is down, or the link between the LANs
// is gone; with probes at ProbeInterval, quietTime). The same holds when the gateway in use has
// lost its uplink: the other one still passes its probes on, but nothing arrives from it. The block
// of a peer that serves our own LAN ends after that time as well, unless it was blocked already
// within againTime. Otherwise a block ends when no probe has shown the loop for holdTime.
//
// # What a peer can achieve with probes
//
// A peer's probe counts for us only if it has a tag made with a key that this peer disclosed to us
// alone, so that none of its other peers can forge one. That a probe is our own is proven with a
// key that is never disclosed. A probe names its VLAN, by the number which that VLAN has at the
// sender, and counts only in the VLAN that the tunnel connects with it. A probe whose clock is more
// than clockSlack away from the sender's clock is not accepted. Probes of a peer with which we do
// not exchange frames are not considered.
//
// Probes of unknown nodes are ordinary broadcasts. They pass storm control on a budget of their
// own, because the broadcast budget is exhausted during a storm. Genuine probes are not charged to
// a budget, but relaying them is limited per origin.
//
// Hubs also send probes to each other as control messages. A hub relays such a probe only if its
// own node name is greater than the origin's, so in a ring of hubs only the one with the lowest
// name receives its own probe again. It blocks the port at which the probe came back, unless the
// ring is already cut at the port through which the probe was sent. Only the origin can recognize
// such a probe as its own, because the key is never disclosed; a peer can therefore only cause a
// port to be blocked whose peer delivered the probe itself.
const (
	ProbeInterval = time.Second
	// Losing several probes in a row does not prove that the loop is gone.
	holdTime = 10 * time.Second
	// A port that is blocked again within this time was opened too early.
	againTime = 5 * time.Minute
	// Seconds; a VM that was paused for longer resumes with a new session.
	clockSlack = 30

	everyVLAN = 4095 // used in block.vid; not a valid VLAN number
)

// block is a port that the loop guard has blocked in one VLAN, in both directions.
type block struct {
	port  PortID
	vid   uint16 // everyVLAN: blocked in all VLANs
	cause PortID // the peer whose probe showed the loop; LocalPort: our own probe
	other PortID // the port that leads to the same LAN; LocalPort: our own LAN
	since boottime.Time
	until boottime.Time

	probe  boottime.Time // when a probe last showed the loop
	rhythm rhythm        // of these probes
	again  bool          // the port was blocked shortly before: open it later
}

// hold returns for how long after a probe the block stays without another.
func (b *block) hold() time.Duration {
	if b.other != LocalPort || b.again || b.rhythm.gap == 0 {
		return holdTime
	}
	return b.rhythm.quietAfter()
}

// over reports whether the block ends now. If probes may be missing only because we ourselves stood
// still until late, they have to be missing from then on.
func (b *block) over(now, late boottime.Time) bool { return !now.Before(b.overAt(late)) }

// overAt returns when the block ends if no probe arrives until then.
func (b *block) overAt(late boottime.Time) boottime.Time {
	if hold := b.hold(); hold < holdTime {
		return max(b.until, late.Add(hold))
	}
	return b.until
}

// judge applies the table above to a probe that originates from the peer at port id (LocalPort for
// our own) and names a VLAN. It reports whether a port was newly blocked. mu is held.
func (s *Switch) judge(f *frameInfo, id PortID, named uint32) (fresh bool) {
	in := f.in.id
	switch {
	case id == LocalPort && named != uint32(f.vid), id != LocalPort && !s.joins(f, id, named):
		return false // the tunnel does not connect that VLAN with this one
	case id == LocalPort && in == LocalPort:
		s.suspect(f.now)
		s.event(f.now, Event{Kind: EventLANLoop, VLAN: f.vid})
		s.lanLoops[f.vid] = f.now
		return false
	case id == LocalPort:
		s.suspect(f.now)
		return s.block(f.now, block{port: in, vid: f.vid})
	case in == LocalPort:
		s.suspect(f.now)
		f.relay = id
		return s.block(f.now, block{port: id, vid: f.vid, cause: id})
	case in == id || s.ports[in] == nil || !s.ports[in].carries():
		return false
	}
	return s.sighted(f.now, id, in, f.vid)
}

// joins reports whether the tunnel connects the VLAN of the frame with the VLAN that has number
// named at the peer of the port. mu is held.
func (s *Switch) joins(f *frameInfo, id PortID, named uint32) bool {
	p := f.view.port(id)
	if p == nil {
		return false
	}
	wire, ok := p.vlans.wire(f.vid)
	peer := &s.ports[id].peer
	if wire == 0 {
		wire = peer.pvid
	}
	return ok && (!peer.namesVLAN || named == uint32(wire))
}

// block blocks a port in a VLAN, or extends an existing block, and reports whether the block is
// new. Entries learned at the port are flushed by the next Tick. mu is held.
func (s *Switch) block(now boottime.Time, want block) (fresh bool) {
	for i := range s.blocks {
		if b := &s.blocks[i]; b.port == want.port && b.vid == want.vid {
			b.rhythm.follow(now.Sub(b.probe))
			b.probe, b.cause, b.other = now, want.cause, want.other
			b.until = now.Add(b.hold())
			return false
		}
	}
	want.since, want.probe, want.until = now, now, now.Add(holdTime)
	if p := s.ports[want.port]; p != nil {
		want.again = p.opened != 0 && now.Sub(p.opened) < againTime
	}
	s.blocks = append(s.blocks, want)
	s.event(now, Event{Kind: EventLoop, Port: want.port, Other: want.other, VLAN: want.vid})
	s.stale = append(s.stale, stale{port: want.port, vid: want.vid})
	s.groups.inherit(now, []heir{{want.port, want.other, want.vid}})
	if want.other == LocalPort {
		s.stale = append(s.stale, stale{port: LocalPort, vid: want.vid, moved: true, since: second(max(now.Add(-suspectTime), 0))})
	}
	if want.other == LocalPort {
		s.flushBridge(now, want.port)
		s.stale = append(s.stale, stale{port: LocalPort, vid: want.vid, stations: true})
	}
	s.refresh(want.port)
	return true
}

// unblock ends the blocks for which gone returns true, and has all ports send hellos and
// announcements soon. mu is held.
func (s *Switch) unblock(now boottime.Time, gone func(*block) bool) {
	var ended []block
	s.blocks = slices.DeleteFunc(s.blocks, func(b block) bool {
		if !gone(&b) {
			return false
		}
		ended = append(ended, b)
		return true
	})
	if len(ended) == 0 {
		return
	}
	var heirs []heir
	for _, b := range ended {
		heirs = append(heirs, heir{b.other, b.port, b.vid})
		if p := s.ports[b.port]; p != nil {
			p.opened = now
		}
		s.event(now, Event{Kind: EventLoopEnd, Port: b.port, Other: b.other, VLAN: b.vid})
		s.refresh(b.port)
		if b.other == LocalPort {
			// Hosts that were reached over the other path are behind the peer again.
			s.stale = append(s.stale, stale{port: LocalPort, vid: b.vid, moved: true, since: second(b.since)})
			s.doubtHosts(b.vid, LocalPort)
		} else {
			s.tellCut(b.port, b.vid, cutOpen)
			s.tellCut(b.other, b.vid, cutOpen)
		}
	}
	s.groups.inherit(now, heirs)
	s.renews = true
}

// renewRate limits how often all peers are sent hellos and announcements because blocks have ended.
// A loop in maxProbedVLANs ends in all of them within some seconds. A peer may make us block and
// open its own port as often as it likes, and each time costs messages to all peers and back.
var renewRate = limit.Each(time.Second, 8)

// renewPeers has all peers sent hellos and announcements, once for all blocks that have ended. What
// is beyond the limit happens at a later tick. mu is held.
func (s *Switch) renewPeers(now boottime.Time) {
	if !s.renews || !s.renewed.Take(now, renewRate) {
		return
	}
	s.renews = false
	for _, p := range s.ports {
		if p.up && p.cfg.Ethernet {
			p.helloAt, p.tries, p.announce = dueNow, 0, true
		}
	}
}

// unblockFor ends the blocks of the port and those that its probes caused. mu is held.
func (s *Switch) unblockFor(id PortID, now boottime.Time) {
	s.forgetPairs(id)
	s.unblock(now, func(b *block) bool { return b.port == id || b.cause == id })
}

// isBlocked reports whether the port is blocked in the VLAN. mu is held.
func (s *Switch) isBlocked(port PortID, vid uint16) bool {
	return slices.ContainsFunc(s.blocks, func(b block) bool { return b.port == port && b.vid == vid })
}

// blockedSet returns the VLANs in which the port is blocked, or nil if there are none. mu is held.
func (s *Switch) blockedSet(id PortID) *vlanSet {
	var set *vlanSet
	for i := range s.blocks {
		if s.blocks[i].port == id {
			if set == nil {
				set = new(vlanSet)
			}
			if s.blocks[i].vid == everyVLAN {
				for w := range set {
					set[w] = ^uint64(0)
				}
				continue
			}
			set.add(s.blocks[i].vid)
		}
	}
	return set
}

// stale selects learned entries that are no longer valid because a block began or ended.
type stale struct {
	port  PortID
	vid   uint16 // everyVLAN: all
	moved bool   // only entries that moved there at or after since
	since uint32 // second
	by    PortID // the peer on whose word they are flushed; LocalPort: our own finding

	claims   bool // no entries; only the claims of the port to entries of others
	stations bool // only stations that are not fixed
}

// names reports whether l is about entries of the port in the VLAN.
func (l *stale) names(port PortID, vid uint16) bool {
	return l.port == port && (l.vid == vid || l.vid == everyVLAN)
}

// counts reports whether l applies to an entry that moved. A peer has a say only about an entry
// that was at its port immediately before, and never about a frozen one.
func (l *stale) counts(v entryValue, c *cold) bool {
	return c.moves > 0 && c.created >= l.since && (l.by == LocalPort || l.by == c.from && v&flagFrozen == 0)
}

// concerns reports whether an entry that stays is one of a host that the peer, whose way to our LAN
// has changed, has or had: its moves do not count, since they followed from that.
func (l *stale) concerns(v entryValue, vid uint16, c *cold) bool {
	if v&flagFrozen != 0 || l.vid != vid && l.vid != everyVLAN {
		return false
	}
	return v.port() == l.by || v.port() == LocalPort && c.from == l.by
}

// flushStale removes the entries selected by list and drops the claims of these ports to other
// entries. Removed entries are learned again, so moves caused by a loop never freeze a MAC address.
func (t *fdb) flushStale(list []stale) {
	if len(list) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each(func(slot int32) {
		v, vid, c := t.value(slot), keyVID(t.keyAt(slot)), &t.cold[slot]
		if v&flagStatic != 0 {
			return
		}
		for _, l := range list {
			if l.stations && v&(flagStation|flagFixed) != flagStation {
				continue
			}
			if !l.claims && l.names(v.port(), vid) && (!l.moved || l.counts(v, c)) {
				t.remove(slot)
				return
			}
			if l.moved && l.by != LocalPort && l.concerns(v, vid, c) {
				c.moves = 0
			}
			if v&flagClaimed != 0 && !l.moved && !l.stations && l.names(c.claim.by, vid) {
				t.dropClaim(slot, v)
				v = t.value(slot)
			}
		}
	})
}

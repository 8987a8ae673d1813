package l2

import (
	"slices"
	"time"

	"tund/internal/boottime"
)

// Loops: two sites that are joined twice.
//
// Every switch sends a probe out of its TAP each ProbeInterval, untagged and in each VLAN that some
// peer carries (probe.go). Where it turns up tells how the LANs hang together:
//
//	whose probe   where           meaning                              what we block, in that VLAN
//	a peer's      at our TAP      the peer and we serve one LAN        the peer's port
//	peer O's      from peer P     O and P may serve one LAN            the port of one of them, once the join is proven
//	ours          from a peer P   P serves our LAN and does not know   port P
//	ours          at our TAP      the LAN itself has a loop            nothing; the event says so
//
// The TAP is never blocked: what arrives there may have been carried by anybody with hosts on two
// LANs.
//
// # Two gateways of one LAN
//
// Gateways that see each other's probes block each other's port, so that no frame goes around
// between them. The other sites still have two ways to that LAN. So a gateway passes a genuine
// probe of a peer that comes in at its TAP on to its other peers: each ProbeInterval they hear O's
// probe from P and P's probe from O. That is only a suspicion, since a liar can have the probes of
// others carried about. A site that hears both therefore tests the join itself (pair.go): it asks O
// to send a frame to O's LAN that looks like any host's ARP request, and P for another, and the
// join is proven when the one comes back from P and the other from O. Then it blocks the port of
// the peer with the greater public key. All sites compute the same, and no peer can choose it.
// Whoever wants that without a cable between the LANs has to carry all broadcasts from each to the
// other, and then there is a loop.
//
// A site tells both gateways what it did (controlCut). They say so to their operators, and forget
// the hosts that copies going around had moved to the wrong port, as does the site itself.
//
// The block ends at once when the peer that stayed leaves or its session ends, when neither probe
// has been heard for quietTime (the gateway has died, or the cable between the LANs is gone), and
// otherwise when no probe has shown the loop for holdTime.
//
// # What a peer can do with probes
//
// A peer's probe counts for us only with a tag made with a key that this peer told us alone, so
// that no peer of it can make one for us. That a probe is our own is proven with a key that nobody
// else has. A probe names its VLAN, by the number it has at its sender, and counts only in the VLAN
// that is joined with that one by the tunnel. One whose clock is more than clockSlack from the
// sender's is not taken. A peer with which we do not exchange frames has no say.
//
// Probes from nodes we do not know are ordinary broadcasts. They pass storm control on a budget of
// their own, since during a storm the broadcast budget is spent. Genuine probes spend none; passing
// them on is limited for each origin.
//
// Hubs send probes to each other as control messages as well. A hub passes one on only if its own
// node is greater than the origin's, so of a ring of hubs only the least sees its probe again. It
// blocks the port through which the probe came back, unless the ring is cut already at the port by
// which it left. Only the origin can tell that such a probe is its own, since it tells nobody the
// secret, and a peer can thus have no port blocked but one whose peer handed the probe over itself.
const (
	ProbeInterval = time.Second
	holdTime      = 10 * time.Second // many lost probes in a row are no proof that the loop is gone
	clockSlack    = 30               // seconds: a VM paused for longer comes up with a new session

	everyVLAN = 4095 // as block.vid: a number that is no VLAN
)

// block is a port that the loop guard has blocked in one VLAN, both directions.
type block struct {
	port  PortID
	vid   uint16 // everyVLAN: in all of them
	cause PortID // whose probe showed the loop; LocalPort: ours
	other PortID // the port whose LAN is the same one; LocalPort: ours
	since boottime.Time
	until boottime.Time
}

// judge applies the table above to a probe of the node at port id that names a VLAN. It reports
// whether a port was blocked anew. mu is held.
func (s *Switch) judge(f *frameInfo, id PortID, named uint32) (fresh bool) {
	in := f.in.id
	switch {
	case id == LocalPort && named != uint32(f.vid), id != LocalPort && !s.joins(f, id, named):
		return false // the tunnel does not join that VLAN with this one
	case id == LocalPort && in == LocalPort:
		s.event(f.now, Event{Kind: EventLANLoop, VLAN: f.vid})
		return false
	case id == LocalPort:
		return s.block(f.now, block{port: in, vid: f.vid})
	case in == LocalPort:
		f.relay = id
		return s.block(f.now, block{port: id, vid: f.vid, cause: id})
	case in == id || s.ports[in] == nil || !s.ports[in].carries():
		return false
	}
	return s.sighted(f.now, id, in, f.vid)
}

// joins reports whether the tunnel joins the frame's VLAN with the one that the peer at the port
// calls named. mu is held.
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

// block blocks a port in a VLAN, or holds it longer, and reports whether it is new. What was
// learned at the port is flushed by the next Tick. mu is held.
func (s *Switch) block(now boottime.Time, want block) (fresh bool) {
	want.since, want.until = now, now.Add(holdTime)
	for i := range s.blocks {
		if b := &s.blocks[i]; b.port == want.port && b.vid == want.vid {
			b.until, b.cause, b.other = want.until, want.cause, want.other
			return false
		}
	}
	s.blocks = append(s.blocks, want)
	s.event(now, Event{Kind: EventLoop, Port: want.port, Other: want.other, VLAN: want.vid})
	s.stale = append(s.stale, stale{port: want.port, vid: want.vid})
	if want.other == LocalPort {
		s.stale = append(s.stale, stale{port: LocalPort, vid: want.vid, moved: true, since: second(max(now.Add(-suspectTime), 0))})
	}
	s.refresh(want.port)
	return true
}

// unblock ends blocks that gone says are over, and has everybody announce afresh. mu is held.
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
	for _, b := range ended {
		s.event(now, Event{Kind: EventLoopEnd, Port: b.port, Other: b.other, VLAN: b.vid})
		s.refresh(b.port)
		if b.other == LocalPort {
			// What came over the other way is behind the peer again.
			s.stale = append(s.stale, stale{port: LocalPort, vid: b.vid, moved: true, since: second(b.since)})
		} else {
			s.tellCut(b.port, b.vid, cutOpen)
		}
	}
	for _, p := range s.ports {
		if p.up && p.cfg.Ethernet {
			p.helloAt, p.tries, p.announce = dueNow, 0, true
		}
	}
}

// unblockFor ends what the port was blocked for, and what its probes showed. mu is held.
func (s *Switch) unblockFor(id PortID, now boottime.Time) {
	s.forgetPairs(id)
	s.unblock(now, func(b *block) bool { return b.port == id || b.cause == id })
}

// isBlocked reports whether the port is blocked in a VLAN. mu is held.
func (s *Switch) isBlocked(port PortID, vid uint16) bool {
	return slices.ContainsFunc(s.blocks, func(b block) bool { return b.port == port && b.vid == vid })
}

// blockedSet returns the VLANs in which the port is blocked; nil for none. mu is held.
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

// stale names learned entries that a block or its end has made worthless.
type stale struct {
	port  PortID
	vid   uint16 // everyVLAN: all
	moved bool   // only those that moved there, at since or later
	since uint32 // second
	by    PortID // not LocalPort: the peer that says so

	claims bool // no entries, only the port's claims to others
}

// names reports whether l is about entries of the port in the VLAN.
func (l *stale) names(port PortID, vid uint16) bool {
	return l.port == port && (l.vid == vid || l.vid == everyVLAN)
}

// counts reports whether l is about an entry that moved. A peer has a say only of what it had right
// before, and of nothing that is frozen.
func (l *stale) counts(v entryValue, c *cold) bool {
	return c.moves > 0 && c.created >= l.since && (l.by == LocalPort || l.by == c.from && v&flagFrozen == 0)
}

// flushStale removes what stale names, and drops the claims of these ports to other entries.
// Removed entries start anew, so moves of this cause never freeze a MAC.
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
			if !l.claims && l.names(v.port(), vid) && (!l.moved || l.counts(v, c)) {
				t.remove(slot)
				return
			}
			if v&flagClaimed != 0 && !l.moved && l.names(c.claim.by, vid) {
				t.dropClaim(slot, v)
				v = t.value(slot)
			}
		}
	})
}

package l2

import (
	"encoding/binary"
	"slices"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Loops: two sites that are joined twice.
//
// Every switch sends a probe out of its TAP each ProbeInterval, untagged and in each VLAN that some peer carries.
// Where it turns up tells how the LANs hang together:
//
//	whose probe   where           meaning                              who blocks
//	a peer's      on our TAP      the peer and we serve one LAN        the one with the greater node: its TAP
//	peer O's      from peer P     O and P serve one LAN                we, port P, if P's node is greater than O's
//	ours          from a peer P   P serves our LAN and does not know   we, port P
//	ours          on our TAP      the LAN itself has a loop            nobody; the event says so
//
// A probe names its VLAN, by the number it has at its sender, and counts only in the VLAN that is joined with
// that one by the tunnel. A probe of ours counts in its own.
//
// Blocked is a port in one VLAN, both directions, until no probe has shown the loop for holdTime, or the peer
// that showed it is down. Its learned entries are flushed. Of two gateways of one LAN exactly one stays,
// whichever way the LANs are joined, and no peer can block another: the probe that blocks P came through P. Probes
// from nodes we do not know are ordinary broadcasts. They pass storm control on a budget of their own, since
// during a storm the broadcast budget is spent. Genuine probes spend none: they end here. A peer with which we do not
// exchange frames has no say.
//
// Hubs send probes to each other as control messages as well. A hub passes one on only if its own node is greater than
// the origin's, so of a ring of hubs only the least sees its probe again. It blocks the port through which the
// probe came back, unless the ring is cut already at the port by which it left. Only the origin can tell that
// such a probe is its own, since it tells nobody the secret, and a peer can thus have no port blocked but one whose
// peer handed the probe over itself.
//
// The probe, in both forms (on the LAN: EtherType 0x88b5, behind "tund" 1 0 0 0):
//
//	node (8 bytes) | clock, seconds (4) | on the LAN: VLAN; to a hub: port it left by (4) | HMAC-SHA-256 of these 16 bytes, cut to 16
//
// The secret of a probe on the LAN and the clock are in the sender's hello, inside the session. The secret of a probe
// between hubs is the sender's alone. A probe whose clock is more than
// clockSlack from the sender's is not taken: an old one, replayed by somebody on the LAN, blocks nothing.
const (
	ProbeInterval = 2 * time.Second
	holdTime      = 5 * ProbeInterval // four lost probes in a row are no proof that the loop is gone
	clockSlack    = 30                // seconds: a VM paused for longer comes up with a new session

	everyVLAN = 4095 // as block.vid: a number that is no VLAN

	probeHead      = 16
	probeLen       = 32
	probeMagic     = 0x74756e64_01000000 // "tund", version 1
	maxProbedVLANs = 64                  // probes per interval: more VLANs take turns
)

// block is a port that the loop guard has blocked in one VLAN.
type block struct {
	port  PortID
	vid   uint16 // everyVLAN: in all of them
	cause PortID // whose probe showed the loop; LocalPort: ours
	until boottime.Time
}

// appendProbe appends a probe that names where it leaves (a VLAN of the LAN, or a port), authenticated by secret.
func (s *Switch) appendProbe(b []byte, now boottime.Time, where uint32, secret *[16]byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, s.node)
	b = binary.BigEndian.AppendUint32(b, second(now))
	b = binary.BigEndian.AppendUint32(b, where)
	sum := authenticate(secret, b[start:])
	return append(b, sum[:]...)
}

// origin returns the port of the node that made the probe; LocalPort and true for ours. ok is false for a node that is
// none of a peer with which we exchange frames now, and for a probe that is not genuine or not of now. mu is held.
func (s *Switch) origin(now boottime.Time, probe []byte, view *view) (id PortID, ok bool) {
	node := binary.BigEndian.Uint64(probe)
	clock := int64(binary.BigEndian.Uint32(probe[8:]))
	fresh := func(offset int64) bool {
		d := clock - int64(second(now)) - offset
		return d >= -clockSlack && d <= clockSlack
	}
	if node == s.node {
		return LocalPort, fresh(0) && authentic(&s.secret, probe[:probeHead], probe[probeHead:probeLen])
	}
	for _, id := range view.probers[node] {
		// Several ports may claim one node name; only the one it belongs to knows the secret.
		if p := s.ports[id]; p != nil && p.carries() && p.peer.node == node && fresh(p.peer.clock) &&
			authentic(&p.peer.secret, probe[:probeHead], probe[probeHead:probeLen]) {
			return id, true
		}
	}
	return 0, false
}

// probeFrame looks at a frame with the probe's EtherType. mine is false when it is somebody else's, to be treated as
// an ordinary frame (without storm control: f.probe); otherwise the frame ends here, for reason.
//
// What is genuine spends no budget, so that no amount of garbage keeps it from being seen. Garbage costs an
// authenticator only if it names us or a peer, and no peer that is not authenticated can add to the list of names.
func (s *Switch) probeFrame(f *frameInfo, v *Verdict) (mine bool, reason drop.Reason) {
	b := f.p.Frame[f.h.Payload:]
	if len(b) < 8+probeLen || binary.BigEndian.Uint64(b) != probeMagic {
		return false, drop.None
	}
	node := binary.BigEndian.Uint64(b[8:])
	if node == s.node || len(f.view.probers[node]) > 0 {
		s.mu.Lock()
		if id, ok := s.origin(f.now, b[8:], f.view); ok {
			blocked, fresh := s.judge(f, id, binary.BigEndian.Uint32(b[8+12:]))
			s.mu.Unlock()
			if fresh {
				s.fdb.flushVLAN(blocked, f.vid)
				v.Wake = true
			}
			return true, drop.LoopBlocked
		}
		s.mu.Unlock()
	}
	if !f.in.state.meters[ClassProbe].take(f.now, f.p.segments(), f.view.rates[ClassProbe]) {
		return true, drop.StormBroadcast
	}
	f.probe = true
	return false, drop.None
}

// judge applies the table above to a probe of the node at port id that names a VLAN, and returns the port it blocks; fresh is
// false when there is none, or it is blocked already. mu is held.
func (s *Switch) judge(f *frameInfo, id PortID, named uint32) (blocked PortID, fresh bool) {
	in := f.in.id
	switch {
	case id == LocalPort && named != uint32(f.vid), id != LocalPort && !s.joins(f, id, named):
		return 0, false // the tunnel does not join that VLAN with this one
	case id == LocalPort && in == LocalPort:
		s.event(f.now, Event{Kind: EventLANLoop, VLAN: f.vid})
		return 0, false
	case id == LocalPort:
		return in, s.block(f.now, in, f.vid, id)
	case in == LocalPort:
		return in, s.ports[id].peer.node < s.node && s.block(f.now, in, f.vid, id)
	case in == id || s.ports[in] == nil:
		return 0, false
	}
	return in, s.ports[in].peer.node > s.ports[id].peer.node && s.block(f.now, in, f.vid, id)
}

// joins reports whether the tunnel joins the frame's VLAN with the one that the peer at the port calls named. mu is held.
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

// block blocks a port in a VLAN, or holds it longer, and reports whether it is new. mu is held.
func (s *Switch) block(now boottime.Time, port PortID, vid uint16, cause PortID) bool {
	for i := range s.blocks {
		if b := &s.blocks[i]; b.port == port && b.vid == vid {
			b.until, b.cause = now.Add(holdTime), cause
			return false
		}
	}
	s.blocks = append(s.blocks, block{port: port, vid: vid, cause: cause, until: now.Add(holdTime)})
	s.event(now, Event{Kind: EventLoop, Port: port, Other: cause, VLAN: vid})
	s.rebuild()
	return true
}

// unblock ends blocks that gone says are over, and has everybody announce afresh. mu is held.
func (s *Switch) unblock(now boottime.Time, gone func(*block) bool) {
	kept := s.blocks[:0]
	for i := range s.blocks {
		b := s.blocks[i]
		if !gone(&b) {
			kept = append(kept, b)
			continue
		}
		s.event(now, Event{Kind: EventLoopEnd, Port: b.port, Other: b.cause, VLAN: b.vid})
	}
	if len(kept) == len(s.blocks) {
		return
	}
	s.blocks = kept
	s.rebuild()
	for _, p := range s.ports {
		if p.up && p.cfg.Ethernet {
			p.helloAt, p.tries, p.announce = dueNow, 0, true
		}
	}
}

// unblockFor ends what the port was blocked for, and what its probes showed. mu is held.
func (s *Switch) unblockFor(id PortID, now boottime.Time) {
	s.unblock(now, func(b *block) bool { return b.port == id || b.cause == id })
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

// sendProbes queues this interval's probes. mu is held.
func (s *Switch) sendProbes(now boottime.Time) {
	view := s.view.Load()
	if len(view.peers) == 0 {
		return // no tunnel, no loop
	}
	sent := 0
	for i := range uint16(maxVID + 1) {
		vid := (s.probeVID + i) % (maxVID + 1)
		if !view.carried(vid) {
			continue
		}
		if sent++; sent > maxProbedVLANs {
			s.probeVID = vid
			break
		}
		b := appendHeader(make([]byte, 0, 64), Broadcast, s.mac, vid, vid != 0, typeProbe)
		b = binary.BigEndian.AppendUint64(b, probeMagic)
		s.toDevice(s.appendProbe(b, now, uint32(vid), &s.secret))
	}
	if !view.cfg.Hub {
		return
	}
	for _, p := range view.peers {
		b := appendControl(nil, controlProbe, probeLen+1)
		s.toPeer(p.id, append(s.appendProbe(b, now, uint32(p.id), &s.own), 0))
	}
}

// carried reports whether any peer carries the VLAN.
func (v *view) carried(vid uint16) bool {
	for _, p := range v.peers {
		if _, ok := p.vlans.egress(vid); ok {
			return true
		}
	}
	return false
}

// hubProbe takes a probe that hubs pass on to each other. What claims to be ours is authenticated and costs no budget:
// the limit of control messages bounds what a peer can make us compute.
func (s *Switch) hubProbe(now boottime.Time, in *port, body []byte) drop.Reason {
	if len(body) < probeLen+1 {
		return drop.BadInnerPacket
	}
	view := s.view.Load()
	if !view.cfg.Hub || !in.cfg.Ethernet {
		return drop.None
	}
	node, hops := binary.BigEndian.Uint64(body), body[probeLen]
	if node == s.node {
		s.hubProbeBack(now, in, body)
		return drop.None
	}
	if !in.state.meters[ClassProbe].take(now, 1, view.rates[ClassProbe]) {
		return drop.StormBroadcast
	}
	if node < s.node && hops < MaxHops {
		s.passProbe(in, body, hops+1)
	}
	return drop.None
}

// hubProbeBack takes a probe that says it is ours, and blocks the port it came in by if it is.
func (s *Switch) hubProbeBack(now boottime.Time, in *port, probe []byte) {
	if !s.returned(now, probe) {
		return
	}
	left := PortID(binary.BigEndian.Uint32(probe[12:]))
	s.mu.Lock()
	blocked := in.id
	if s.isBlocked(left, everyVLAN) {
		blocked = left // the ring is cut there
	}
	fresh := s.ports[blocked] != nil && s.block(now, blocked, everyVLAN, LocalPort)
	s.mu.Unlock()
	if fresh {
		s.fdb.flushPort(blocked, false)
	}
}

// returned reports whether we sent the probe to another hub within the last holdTime.
func (s *Switch) returned(now boottime.Time, probe []byte) bool {
	age := int64(second(now)) - int64(binary.BigEndian.Uint32(probe[8:]))
	return age >= 0 && age <= int64(holdTime/time.Second) &&
		authentic(&s.own, probe[:probeHead], probe[probeHead:probeLen])
}

// isBlocked reports whether the port is blocked in a VLAN. mu is held.
func (s *Switch) isBlocked(port PortID, vid uint16) bool {
	return slices.ContainsFunc(s.blocks, func(b block) bool { return b.port == port && b.vid == vid })
}

// passProbe queues another hub's probe to all peers but the one it came from.
func (s *Switch) passProbe(in *port, body []byte, hops byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.view.Load().peers {
		if p.id == in.id {
			continue
		}
		b := appendControl(nil, controlProbe, probeLen+1)
		b = append(b, body[:probeLen]...)
		s.toPeer(p.id, append(b, hops))
	}
}

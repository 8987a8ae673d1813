package l2

import (
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
)

// renameRate limits how often a peer may change its node name, which a legitimate one does only
// together with its key: eight times in a burst, then once every ten seconds.
var renameRate = limit.Each(10*time.Second, 8)

// peerInfo is what the hello of a peer said.
type peerInfo struct {
	known    bool
	ethernet bool
	hub      bool
	mtu      int
	node     uint64
	mac      MAC
	secret   [16]byte
	clock    int64 // its clock minus ours, in seconds

	namesVLAN bool   // its loop probes name their VLAN
	pvid      uint16 // its VLAN for untagged frames; noVLAN: none

	keyed bool     // its loop probes carry tags
	key   [16]byte // for ours
	since uint64   // order in which peers told us their node names

	// VLANs that it carries with us, as on the wire: a bitmap without zeros at its end, which is
	// short for most peers; nil: it does not say.
	vlans []byte
}

// hello handles the hello of a peer.
func (s *Switch) hello(now boottime.Time, from PortID, body []byte) drop.Reason {
	h, ok := ParseHello(body)
	if !ok {
		return drop.BadInnerPacket
	}
	reason, gone := s.takeHello(now, from, &h)
	if gone {
		s.forget(from, false)
	}
	return reason
}

// takeHello records what a hello says. gone reports that the peer no longer carries Ethernet.
func (s *Switch) takeHello(now boottime.Time, from PortID, h *Hello) (reason drop.Reason, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ports[from]
	if p == nil || h.Node == s.node {
		return drop.BadInnerPacket, false // our own node name, which no legitimate peer has
	}
	if h.Leaving {
		s.leave(now, from, p)
		return drop.None, true
	}
	was := p.peer
	if was.known && was.node != h.Node && !p.state.renames.Take(now, 1, renameRate) {
		s.watchOf(from).series[refusedRename].note(now)
		return drop.ControlRate, false
	}
	if h.Answer {
		p.watch.forget() // its settings have changed
	}
	p.peer = peerInfo{
		known: true, ethernet: h.Ethernet, hub: h.Hub, mtu: h.MTU, node: h.Node, mac: switchMAC(h.Node),
		secret: h.Secret, clock: int64(h.Clock) - int64(second(now)),
		namesVLAN: h.NamesVLAN, pvid: h.PVID, keyed: h.Keyed, key: h.Key, since: was.since,
	}
	if h.ListsVLANs {
		p.peer.vlans = h.VLANs.bitmap()
	}
	s.watchAt = dueNow
	if !was.known || was.node != h.Node {
		s.helloSeq++
		p.peer.since = s.helloSeq
	}
	if !was.known || !h.Answer && p.tries > 0 {
		// The peer has received ours; otherwise the two have crossed, and ours still has to be
		// sent.
		p.helloAt = 0
	}
	wasUp := p.up
	p.up = true // its hello may have overtaken SetPortUp
	if h.Answer || !wasUp {
		s.sendHello(now, from, p, false)
	}
	s.reportHello(now, from, p, was)
	if !was.known || !wasUp || was.ethernet != h.Ethernet || was.mtu != h.MTU || was.node != h.Node {
		s.refresh(from)
	}
	if !was.known {
		s.groups.renew(now, from)
		s.querier.soon(now)
		s.probeSoon(now) // a new path between LANs: look for a loop now
		s.watchUntil = now.Add(watchTime)
	}
	if p.cfg.Ethernet && h.Ethernet && (h.Answer || !was.known) {
		p.announce = true
	}
	return drop.None, was.ethernet && !h.Ethernet
}

// leave resets the port to its state before the first hello of the peer. mu is held.
func (s *Switch) leave(now boottime.Time, id PortID, p *slowPort) {
	s.unblockFor(id, now)
	p.peer, p.helloAt, p.announce, p.standby = peerInfo{}, 0, false, nil
	p.active, p.watch = nil, p.watch.withoutPeer()
	p.state.bpduUntil.Store(0)
	s.refresh(id)
}

// Goodbye returns the messages that tell each peer that we are leaving, so that nobody has to wait
// for a timeout: peers remove what was learned behind us and open another path to our LAN. Nothing
// else may be sent after them. The caller owns the result.
func (s *Switch) Goodbye(now boottime.Time) (out []Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Hello{Version: helloVersion, Leaving: true, MTU: int(s.maxMTU.Load()), Node: s.node, Clock: second(now)}
	for id, p := range s.ports {
		if p.up && p.peer.known {
			out = append(out, Message{id, h.Append(nil)})
		}
	}
	return out
}

// Greet queues a hello to the peer at the port, if it is up and has sent a hello before. It changes
// nothing there, but it is data that a live peer acknowledges, so a dead peer is detected even if
// no host has anything to send to it.
func (s *Switch) Greet(now boottime.Time, id PortID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports[id]; p != nil && p.up && p.peer.known {
		s.sendHello(now, id, p, false)
	}
}

func (s *Switch) reportHello(now boottime.Time, from PortID, p *slowPort, was peerInfo) {
	switch {
	case p.cfg.Ethernet && !p.peer.ethernet:
		s.event(now, Event{Kind: EventNoEthernet, Port: from})
	case !p.cfg.Ethernet && p.peer.ethernet:
		s.event(now, Event{Kind: EventUnwantedEthernet, Port: from})
	case p.cfg.Ethernet && int64(p.peer.mtu) != s.maxMTU.Load() && p.peer.mtu != was.mtu:
		s.event(now, Event{Kind: EventMTU, Port: from, Number: p.peer.mtu})
	}
}

// sendHello queues a hello to the port. mu is held.
func (s *Switch) sendHello(now boottime.Time, id PortID, p *slowPort, answer bool) {
	vlans := newMembership(p.cfg.VLANs, p.cfg.PVID, s.cfg.QinQ)
	h := Hello{
		Version: helloVersion, Ethernet: p.cfg.Ethernet, Answer: answer, Hub: s.cfg.Hub, MTU: int(s.maxMTU.Load()),
		Node: s.node, Secret: s.secret, Clock: second(now), NamesVLAN: true, PVID: vlans.native(),
		Keyed: true, Key: p.key, ListsVLANs: p.cfg.Ethernet,
	}
	if h.ListsVLANs {
		h.VLANs = vlans.onWire()
	}
	s.toPeer(id, h.Append(nil))
}

package l2

import (
	"cmp"
	"maps"
	"slices"
)

// view is the configuration as the packet path sees it. It is immutable and replaced as a whole.
type view struct {
	cfg    Config
	local  *port
	silent *vlanSet // VLANs in which neighbours are not answered for; nil: none
	byID   []*port
	peers  []*port // peers that are up and known to carry Ethernet
	pinned map[MAC]PortID
	// MACs of the peers' switches; if two peers have the same, the one whose key it follows from,
	// or the first to say so.
	nodes map[MAC]PortID

	// By node name: the ports that are ready and whose peer has that name.
	probers map[uint64][]PortID
}

func (v *view) port(id PortID) *port {
	if int(id) < len(v.byID) {
		return v.byID[id]
	}
	return nil
}

// floods reports whether anything is flooded to a peer.
func (v *view) floods() bool {
	return slices.ContainsFunc(v.peers, func(p *port) bool { return !p.cfg.NoBUM })
}

// suppresses reports whether neighbours are answered for in the VLAN.
func (v *view) suppresses(vid uint16) bool {
	return v.cfg.NeighborSuppression && (v.silent == nil || !v.silent.has(vid))
}

func unsuppressed(vlans []uint16) *vlanSet {
	if len(vlans) == 0 {
		return nil
	}
	set := new(vlanSet)
	for _, vid := range vlans {
		set.add(vid)
	}
	return set
}

// port is one port in a view.
type port struct {
	id      PortID
	cfg     PortConfig
	vlans   membership
	state   *portState
	storms  *[classes]stormRate
	ready   bool     // up, and the peer has said that it carries Ethernet
	mtu     int      // MTU of the peer, or a bound larger than any frame
	node    MAC      // MAC of the peer's switch; 0: not known yet
	name    uint64   // node name of the peer; 0: not known yet
	blocked *vlanSet // VLANs blocked by the loop guard; nil: none
}

// rebuild publishes a view built from scratch. mu is held (or s is not shared yet).
func (s *Switch) rebuild() {
	next := &view{cfg: s.cfg, local: &port{
		id: LocalPort, cfg: PortConfig{Name: s.name(LocalPort), Ethernet: true}, state: s.local, ready: true, mtu: maxPayload,
		vlans: membership{all: true, qinq: s.cfg.QinQ}, storms: s.stormsOf(&PortConfig{}),
	}}
	next.silent = unsuppressed(s.cfg.UnsuppressedVLANs)
	last := LocalPort
	for id := range s.ports {
		last = max(last, id)
	}
	next.byID = make([]*port, last+1)
	next.byID[LocalPort] = next.local
	next.probers, next.nodes = make(map[uint64][]PortID), make(map[MAC]PortID)
	for id := range s.ports {
		next.byID[id] = s.makePort(id)
		next.addNames(s, id)
	}
	next.pinned = s.pinnedMACs()
	for _, p := range next.byID[1:] {
		if p != nil && p.ready {
			next.peers = append(next.peers, p)
		}
	}
	s.view.Store(next)
}

// refresh publishes a view in which one port is updated and everything else is shared with the
// previous view: with 5,000 ports it costs a hundredth of rebuild. The MACs pinned by the
// configuration must not have changed. mu is held.
func (s *Switch) refresh(id PortID) {
	old := s.view.Load()
	next := new(view)
	*next = *old
	next.byID = slices.Clone(old.byID)
	if n := int(id) + 1 - len(next.byID); n > 0 {
		next.byID = append(next.byID, make([]*port, n)...)
	}
	was, is := old.port(id), s.makePort(id)
	next.byID[id] = is
	next.peers = replacePeer(old.peers, id, is)
	if !sameNames(was, is) {
		next.probers, next.nodes = maps.Clone(old.probers), maps.Clone(old.nodes)
		next.removeNames(s, was)
		next.addNames(s, id)
	}
	s.view.Store(next)
}

// makePort returns the current state of the port as a port of a view; nil if there is no such port.
// mu is held.
func (s *Switch) makePort(id PortID) *port {
	sp := s.ports[id]
	if sp == nil {
		return nil
	}
	return &port{
		id: id, cfg: sp.cfg, state: sp.state, mtu: sp.peer.mtu, node: sp.peer.mac, name: sp.peer.node,
		blocked: s.blockedSet(id), vlans: newMembership(sp.cfg.VLANs, sp.cfg.PVID, s.cfg.QinQ), ready: sp.carries(),
		storms: s.stormsOf(&sp.cfg),
	}
}

// pinnedMACs returns the port of each pinned MAC; nil if there are none. mu is held.
func (s *Switch) pinnedMACs() (pinned map[MAC]PortID) {
	for id, sp := range s.ports {
		for _, m := range sp.cfg.MACs {
			if pinned == nil {
				pinned = make(map[MAC]PortID)
			}
			pinned[m] = id
		}
	}
	return pinned
}

// replacePeer returns a copy of peers, which is sorted, in which p replaces the port id; or without
// that port if p is not ready.
func replacePeer(peers []*port, id PortID, p *port) []*port {
	i, found := slices.BinarySearchFunc(peers, id, func(p *port, id PortID) int { return cmp.Compare(p.id, id) })
	ready := p != nil && p.ready
	if !found && !ready {
		return peers
	}
	peers = slices.Clone(peers)
	switch {
	case !ready:
		return slices.Delete(peers, i, i+1)
	case !found:
		return slices.Insert(peers, i, p)
	}
	peers[i] = p
	return peers
}

// sameNames reports whether probers and nodes have the same entries for both ports.
func sameNames(a, b *port) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.name == b.name && a.ready == b.ready
}

// addNames adds the peer of the port to probers and nodes. Switch.mu is held.
func (v *view) addNames(s *Switch, id PortID) {
	sp := s.ports[id]
	if sp == nil || !sp.peer.known {
		return
	}
	if sp.carries() {
		v.probers[sp.peer.node] = append(slices.Clip(v.probers[sp.peer.node]), id)
	}
	v.addNode(s, id)
}

// removeNames removes the former state of a port from probers and nodes. If the MAC of its switch
// is also used by other peers, it goes to the next of them. Switch.mu is held.
func (v *view) removeNames(s *Switch, was *port) {
	if was == nil || was.name == 0 {
		return
	}
	others := slices.DeleteFunc(slices.Clone(v.probers[was.name]), func(id PortID) bool { return id == was.id })
	if v.probers[was.name] = others; len(others) == 0 {
		delete(v.probers, was.name)
	}
	if v.nodes[was.node] != was.id {
		return
	}
	delete(v.nodes, was.node)
	for id, sp := range s.ports {
		if id != was.id && sp.peer.known && sp.peer.mac == was.node {
			v.addNode(s, id)
		}
	}
}

// addNode assigns the MAC of the peer's switch to its port, unless another peer has a better claim
// to it. Switch.mu is held.
func (v *view) addNode(s *Switch, id PortID) {
	sp := s.ports[id]
	if first, ok := v.nodes[sp.peer.mac]; !ok || s.ports[first] == nil || sp.namedBefore(s.ports[first]) {
		v.nodes[sp.peer.mac] = id
	}
}

// namedBefore reports whether the node name of p counts more than that of o, whose MAC is the same:
// a peer chooses what it says, but not its key.
func (p *slowPort) namedBefore(o *slowPort) bool {
	if a, b := p.ownName(), o.ownName(); a != b {
		return a
	}
	return p.peer.since < o.peer.since
}

// ownName reports whether the peer's node name is the one that follows from its key.
func (p *slowPort) ownName() bool { return p.cfg.Node != 0 && p.peer.node == p.cfg.Node }

// otherSwitch reports whether m is the MAC of the switch of another peer than the one at port id.
func (v *view) otherSwitch(m MAC, id PortID) bool {
	if m>>24 != switchPrefix {
		return false
	}
	owner, known := v.nodes[m]
	return known && owner != id
}

const maxPayload = 1 << 20 // bytes; more than any superpacket has

package l2

import (
	"slices"
	"sync"

	"tund/internal/boottime"
)

// groups is the state of multicast snooping, after RFC 4541.
//
// Listeners are learned from IGMPv1-v3 and MLDv1-v2 reports, per VLAN and group MAC. 32 IPv4 groups
// share one MAC, so a port may get a stream that it did not ask for, but never too little.
// Multicast is pruned only while a querier is active in the VLAN, because without one reports are
// not repeated; a LAN without a querier is flooded as before. Never pruned are 224.0.0.0/24, all
// groups of link-local scope (ff02::/16), including solicited-node groups, and multicast that is
// not IP. Ports that lead to a multicast router or to the querier get all multicast, unless the
// querier is a switch like us (parseIGMP says why). A full table fails open: the port gets all
// multicast. Which messages are believed is described in igmp.go.
//
// Reports go to all peers, whose switches need them, but are sent to a LAN only if it has a router
// or querier: a host that hears another host's IGMPv2 report suppresses its own (RFC 4541 §2.1.1).
type groups struct {
	// Guards everything below; shared for forwarding, exclusive for reports and ageing.
	mu       sync.RWMutex
	members  map[uint64][]listener
	perPort  map[PortID]int
	total    int
	domains  map[uint32]*snoopDomain // by VLAN<<1, plus 1 for IPv6
	wantsAll map[PortID]uint32       // second until which a port gets all multicast
	last     transfer                // what follow did last
}

type listener struct {
	port  PortID
	until uint32 // second
}

// snoopDomain is the state of one address family in one VLAN.
type snoopDomain struct {
	querierUntil uint32
	prunesFrom   uint32 // hosts have had the time to answer the first query
	otherUntil   uint32 // a querier to which our own yields is active
	// Ports that queries come from, including those of a switch like us, which is no router.
	queriers []listener
	routers  []listener
}

// Timers of RFC 3376 §8 and RFC 3810 §9, in seconds.
const (
	memberInterval  = 260 // group membership interval: 2 × 125 + 10
	querierInterval = 255 // other querier present interval: 2 × 125 + 10/2
	leaveInterval   = 3   // last member query time, 2, and one second for transit
	answerTransit   = 1
	// Time after a port has come back within which its hosts are asked and answer: the query
	// interval, the time to answer, and transit.
	renewInterval = queryInterval + queryResponse + answerTransit
)

// Bounds of the tables: several groups for each of some hundred hosts.
const (
	maxListeners     = 8192
	maxPortListeners = 1024
	maxRouterPorts   = 64
	// Records read per report; hardly any host fits more into a v3 report of one full Ethernet
	// frame.
	maxRecords = 32
)

func newGroups() *groups {
	return &groups{
		members: make(map[uint64][]listener), perPort: make(map[PortID]int),
		domains: make(map[uint32]*snoopDomain), wantsAll: make(map[PortID]uint32),
	}
}

func domainKey(vid uint16, v6 bool) uint32 {
	k := uint32(vid) << 1
	if v6 {
		k |= 1
	}
	return k
}

// domain returns the state of a VLAN, which it makes if there is none yet. There are at most 2 ×
// 4095, bounded by the VLANs that ports carry. mu is held.
func (g *groups) domain(vid uint16, v6 bool) *snoopDomain {
	d := g.domains[domainKey(vid, v6)]
	if d == nil {
		d = &snoopDomain{}
		g.domains[domainKey(vid, v6)] = d
	}
	return d
}

// observe records what message m, received at port in VLAN vid, says.
func (g *groups) observe(now boottime.Time, port PortID, vid uint16, m *membershipMessage) {
	sec := second(now)
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.query || m.router {
		d := g.domain(vid, m.v6)
		if m.better {
			d.otherUntil = sec + querierInterval
		}
		if m.query {
			d.queried(sec, uint32(m.response))
			d.queriers, _ = setListener(d.queriers, listener{port, sec + querierInterval}, maxRouterPorts)
		}
		if m.router {
			d.routers, _ = setListener(d.routers, listener{port, sec + querierInterval}, maxRouterPorts)
		}
	}
	for _, r := range m.records[:m.n] {
		key := entryKey(vid, r.group)
		if r.join {
			g.join(key, listener{port, sec + memberInterval})
		} else {
			g.leave(key, listener{port, sec + leaveInterval})
		}
	}
	if m.overflow {
		g.wantsAll[port] = sec + memberInterval
	}
}

// queried notes a query at second sec, which hosts answer within response seconds. Until they have
// answered the first one, nothing is pruned: nobody has reported yet (br_multicast_querier_exists
// in net/bridge/br_multicast.c waits in the same way).
func (d *snoopDomain) queried(sec, response uint32) {
	if d.querierUntil <= sec {
		d.prunesFrom = sec + response + answerTransit
	}
	d.querierUntil = sec + querierInterval
}

func (g *groups) join(key uint64, l listener) {
	list := g.members[key]
	room := len(list)
	if g.total < maxListeners && g.perPort[l.port] < maxPortListeners {
		room++
	}
	list, grew := setListener(list, l, room)
	if grew {
		g.total++
		g.perPort[l.port]++
	} else if !hasListener(list, l.port) {
		g.wantsAll[l.port] = l.until
		return
	}
	g.members[key] = list
}

// leave shortens the membership: another host behind the port may still be listening, and has until
// then to report.
func (g *groups) leave(key uint64, l listener) {
	for i, m := range g.members[key] {
		if m.port == l.port {
			g.members[key][i].until = min(m.until, l.until)
		}
	}
}

// setListener adds l to list, or extends its time if it is already there. It adds a new listener
// only while list is shorter than room.
func setListener(list []listener, l listener, room int) (_ []listener, grew bool) {
	for i := range list {
		if list[i].port == l.port {
			list[i].until = l.until
			return list, false
		}
	}
	if len(list) >= room {
		return list, false
	}
	return append(list, l), true
}

func hasListener(list []listener, port PortID) bool {
	for i := range list {
		if list[i].port == port {
			return true
		}
	}
	return false
}

// plan says which ports get a multicast frame. It is valid while g.mu is held (shared).
type plan struct {
	flood    bool
	members  []listener
	routers  []listener
	wantsAll map[PortID]uint32
	sec      uint32
}

// plan returns the plan for a frame to the group MAC dst in VLAN vid. g.mu is held (shared).
func (g *groups) plan(now boottime.Time, vid uint16, dst MAC) plan {
	v6 := dst>>32 == 0x3333
	switch {
	case v6 && (dst&0xffffff00 == 0 || dst>>24 == 0x3333_ff): // ff02::xx and solicited-node groups
		return plan{flood: true}
	case !v6 && (dst>>23 != 0x01005e_000000>>23 || dst&0x7fff00 == 0): // not IPv4, or 224.0.0.0/24
		return plan{flood: true}
	}
	sec := second(now)
	d := g.domains[domainKey(vid, v6)]
	if d == nil || d.querierUntil < sec || sec < d.prunesFrom {
		return plan{flood: true}
	}
	return plan{members: g.members[entryKey(vid, dst)], routers: d.routers, wantsAll: g.wantsAll, sec: sec}
}

// wants reports whether the port gets the frame.
func (p *plan) wants(port PortID) bool {
	return p.flood || p.listed(p.members, port) || p.listed(p.routers, port) || p.wantsAll[port] > p.sec
}

func (p *plan) listed(list []listener, port PortID) bool {
	for i := range list {
		if list[i].port == port {
			return list[i].until > p.sec
		}
	}
	return false
}

// wantsReports reports whether a report of VLAN vid is to be sent to the LAN behind the TAP: if
// there is a router or a querier, or if no querier is known at all. A bridge that is a querier
// itself has to learn of the members behind our peers, or it would not forward their groups to the
// TAP.
func (g *groups) wantsReports(now boottime.Time, vid uint16, v6 bool) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	sec := second(now)
	d := g.domains[domainKey(vid, v6)]
	if d == nil || d.querierUntil < sec {
		return true
	}
	p := plan{sec: sec}
	return p.listed(d.routers, LocalPort) || p.listed(d.queriers, LocalPort)
}

// age removes what has expired.
func (g *groups) age(now boottime.Time) {
	sec := second(now)
	g.purge(func(l listener) bool { return l.until <= sec })
	g.mu.Lock()
	defer g.mu.Unlock()
	for port, until := range g.wantsAll {
		if until <= sec {
			delete(g.wantsAll, port)
		}
	}
	for key, d := range g.domains {
		if d.querierUntil <= sec && len(d.routers) == 0 {
			delete(g.domains, key)
		}
	}
}

// forget removes everything.
func (g *groups) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total = 0
	clear(g.members)
	clear(g.perPort)
	clear(g.domains)
	clear(g.wantsAll)
}

// flush removes everything learned at the port.
func (g *groups) flush(port PortID) {
	g.purge(func(l listener) bool { return l.port == port })
	g.mu.Lock()
	delete(g.wantsAll, port)
	delete(g.perPort, port)
	g.mu.Unlock()
}

func (g *groups) purge(gone func(listener) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, list := range g.members {
		kept := list[:0]
		for _, l := range list {
			if !gone(l) {
				kept = append(kept, l)
				continue
			}
			g.total--
			g.perPort[l.port]--
		}
		if len(kept) == 0 {
			delete(g.members, key)
		} else {
			g.members[key] = kept
		}
	}
	for _, d := range g.domains {
		d.routers = slices.DeleteFunc(d.routers, gone)
		d.queriers = slices.DeleteFunc(d.queriers, gone)
	}
}

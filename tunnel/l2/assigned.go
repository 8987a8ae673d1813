package l2

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Assigned hosts: MAC addresses, and the IP addresses of their hosts, that somebody who knows the
// whole network has assigned to ports (the agent of a registry), instead of the switch learning
// them from frames. In the forwarding database they have the kind "control".
//
//   - They do not age, and are not limited with what is learned: the table has a bound of its own.
//   - A frame from another peer does not move an assigned MAC: it is refused (drop.SourceForeign).
//     The MAC moves when it is assigned to another port, or when the host appears on our own LAN:
//     the entry then has no effect until it is assigned again with a higher sequence number, or the
//     host ages out here (RFC 7432 §7.7). A sticky one does not move to our LAN either.
//   - What a hub relays to everybody is no sign of where its sender lives: such a frame passes, and
//     nothing is learned from it, unless its source is assigned to our own LAN.
//   - As long as the port is down, an assignment that is not sticky has no effect, so that its host
//     may appear elsewhere. As long as the loop guard blocks the port in the VLAN, no assignment to
//     it has: its LAN is reached through another port.
//   - What is pinned takes precedence, and so does an address of the gateway itself.
//   - An address that routers share (virtual.go) is where their election says: an assignment of one
//     is left out.
//   - An ARP request or neighbour solicitation from our LAN for an assigned address is answered
//     while the port is up, unless a host on our LAN has shown that it has the address. The answer
//     is not verified. If the asker repeats its question at once, the answer was of no use to it,
//     and the question is flooded as well, where it may be flooded.
//   - Addresses are also assigned to our own LAN (LocalPort): frames to them are not unknown
//     unicast, and no peer can use them as a source.
const (
	// MaxAssigned bounds the assigned MACs, each of which takes about 40 bytes.
	MaxAssigned = 65_536
	// MaxAssignedAddrs bounds the assigned IP addresses, each of which takes about 80 bytes.
	MaxAssignedAddrs = 65_536

	// A change copies the shards that it touches: 1/assignedShards of the table for one entry.
	assignedShards = 256
	// askMemory is how many of the last questions are remembered, to notice repeated ones.
	askMemory = 256
)

// Assigned says where a MAC address lives.
type Assigned struct {
	MAC    MAC
	VLAN   uint16 // 0: untagged frames
	Port   PortID
	Seq    uint32 // counts the moves of the host
	Sticky bool   // the host never appears on our own LAN
}

// AssignedAddr says which MAC address has an IP address.
type AssignedAddr struct {
	Addr   netip.Addr
	VLAN   uint16
	MAC    MAC
	Port   PortID
	Router bool // it is a router, as neighbour advertisements say
}

// Assignment is a change of the assigned hosts. What it names twice is as it is named last.
type Assignment struct {
	// Whole: what is not in Set and SetAddrs goes.
	Whole       bool
	Set         []Assigned
	SetAddrs    []AssignedAddr
	Remove      []Assigned     // by MAC and VLAN
	RemoveAddrs []AssignedAddr // by Addr and VLAN
}

// assigned is the table of assigned hosts. Look-ups of MACs take no lock.
type assigned struct {
	count  atomic.Int32 // of MACs, so that an empty table costs one read
	shards [assignedShards]atomic.Pointer[map[uint64]assignedMAC]

	mu    sync.Mutex // guards changes, and what follows
	addrs map[neighborKey]assignedHost
	asked [askMemory]askedOnce
}

type assignedMAC struct {
	port   PortID
	seq    uint32
	since  uint32 // second in which it was assigned to the port
	sticky bool
}

type assignedHost struct {
	mac    MAC
	port   PortID
	router bool
}

// askedOnce is a question that was answered.
type askedOnce struct {
	key   neighborKey
	asker MAC
	at    uint32 // second
}

func newAssigned() *assigned { return &assigned{addrs: make(map[neighborKey]assignedHost)} }

func shardOf(key uint64) int { return int((key * 0x9e3779b97f4a7c15) >> 56) }

// find returns the assignment of a key of the forwarding database.
func (a *assigned) find(key uint64) (m assignedMAC, ok bool) {
	if a.count.Load() == 0 {
		return m, false
	}
	if shard := a.shards[shardOf(key)].Load(); shard != nil {
		m, ok = (*shard)[key]
	}
	return m, ok
}

// Assign changes the assigned hosts. Frames of a host that is new at its port, or has moved there
// with a higher sequence number, no longer count as seen elsewhere. What exceeds MaxAssigned or
// MaxAssignedAddrs, or can be no host's, is left out. The slices are not retained.
func (s *Switch) Assign(now boottime.Time, c Assignment) {
	arrived := s.assigned.change(second(now), &c)
	for _, key := range arrived {
		a, _ := s.assigned.find(key)
		if s.fdb.yield(key) && a.port != LocalPort {
			s.tellLAN(now, keyVID(key), keyMAC(key))
		}
	}
}

// change applies c and returns the keys of hosts that are new at their port.
func (a *assigned) change(sec uint32, c *Assignment) (arrived []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := make(map[int]map[uint64]assignedMAC) // shards that change
	shard := func(key uint64) map[uint64]assignedMAC {
		n := shardOf(key)
		if fresh[n] == nil {
			fresh[n] = make(map[uint64]assignedMAC)
			if old := a.shards[n].Load(); old != nil && !c.Whole {
				fresh[n] = maps.Clone(*old)
			}
		}
		return fresh[n]
	}
	total := 0
	if c.Whole {
		for n := range a.shards {
			fresh[n] = make(map[uint64]assignedMAC)
		}
	} else {
		total = int(a.count.Load())
	}
	for _, e := range c.Remove {
		key := entryKey(e.VLAN, e.MAC)
		if _, there := shard(key)[key]; there {
			delete(shard(key), key)
			total--
		}
	}
	for _, e := range c.Set {
		if e.MAC == 0 || e.MAC > Broadcast || e.MAC.Group() || virtualMAC(e.MAC) || e.VLAN > maxVID {
			continue
		}
		key := entryKey(e.VLAN, e.MAC)
		if _, there := shard(key)[key]; !there {
			if total >= MaxAssigned {
				continue
			}
			total++
		}
		next := assignedMAC{e.Port, e.Seq, sec, e.Sticky}
		if was, there := a.find(key); there && was.port == e.Port && e.Seq <= was.seq {
			next.since = was.since
		} else {
			arrived = append(arrived, key)
		}
		shard(key)[key] = next
	}
	for n, m := range fresh {
		a.shards[n].Store(&m)
	}
	a.count.Store(int32(total))
	a.changeAddrs(c)
	return arrived
}

// changeAddrs is the part of change about IP addresses. mu is held.
func (a *assigned) changeAddrs(c *Assignment) {
	if c.Whole {
		clear(a.addrs)
	}
	for _, h := range c.RemoveAddrs {
		delete(a.addrs, h.key())
	}
	for _, h := range c.SetAddrs {
		key := h.key()
		if _, there := a.addrs[key]; !there && len(a.addrs) >= MaxAssignedAddrs {
			continue
		}
		a.addrs[key] = assignedHost{h.MAC, h.Port, h.Router}
	}
}

func (h *AssignedAddr) key() neighborKey { return neighborKey{h.VLAN, h.Addr.As16()} }

// forget removes what is assigned to a port.
func (a *assigned) forget(id PortID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count.Load() == 0 && len(a.addrs) == 0 {
		return
	}
	gone := 0
	for n := range a.shards {
		old := a.shards[n].Load()
		if old == nil {
			continue
		}
		next := maps.Clone(*old)
		maps.DeleteFunc(next, func(_ uint64, m assignedMAC) bool { return m.port == id })
		if len(next) < len(*old) {
			gone += len(*old) - len(next)
			a.shards[n].Store(&next)
		}
	}
	a.count.Add(int32(-gone))
	maps.DeleteFunc(a.addrs, func(_ neighborKey, h assignedHost) bool { return h.port == id })
}

// yield removes a learned entry of a host that was assigned to a port, wherever it was learned. A
// pinned one, and an address of the gateway itself, stay. It reports whether the host was here.
func (t *fdb) yield(key uint64) (local bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetHome(key)
	v, slot, ok := t.findLocked(key)
	if !ok || v&(flagStatic|flagFixed) != 0 {
		return false
	}
	t.remove(slot)
	return v.port() == LocalPort
}

// later reports whether a station was assigned to a peer after the bridge has heard it last.
func (a *assigned) later(st *Station, now boottime.Time) bool {
	m, ok := a.find(st.key())
	return ok && !st.Fixed && m.port != LocalPort && (m.sticky || second(max(now.Add(-st.Idle), 0)) <= m.since)
}

// assignedPort returns the port that a MAC is assigned to in a VLAN, if the assignment has an
// effect: e is the entry of the MAC in the forwarding database, if known.
func (v *view) assignedPort(vid uint16, a assignedMAC, e entryValue, known bool) (PortID, bool) {
	if known && (e&(flagStatic|flagFixed) != 0 || e.port() == LocalPort && !a.sticky) {
		return 0, false
	}
	p := v.port(a.port)
	if p != nil && p.blocked != nil && p.blocked.has(vid) {
		return 0, false
	}
	return a.port, a.sticky || p != nil && p.ready
}

// assignedSource judges a frame whose source has an assignment. Unless done, the frame is judged
// like others.
func (s *Switch) assignedSource(f *frameInfo) (reason drop.Reason, done bool) {
	key := entryKey(f.vid, f.h.Src)
	a, ok := s.assigned.find(key)
	if !ok {
		return drop.None, false
	}
	e, _, known := s.fdb.find(key)
	at, counts := f.view.assignedPort(f.vid, a, e, known)
	switch {
	case !counts, f.in.id == LocalPort && (at == LocalPort || !a.sticky):
		return drop.None, false // on our own LAN it is learned as any other
	case at == f.in.id, f.hops > 0 && f.class != ClassUnicast && at != LocalPort:
		return drop.None, true
	}
	return drop.SourceForeign, true
}

// answerAssigned answers the request in v.neigh if the address is assigned, and reports whether the
// request need not be flooded.
func (s *Switch) answerAssigned(f *frameInfo, v *Verdict) bool {
	key := neighborKey{f.vid, v.neigh.target}
	h, repeated, ok := s.assigned.ask(key, f.h.Src, second(f.now))
	if !ok || h.mac == f.h.Src || s.hosts.isLocal(key) {
		return false
	}
	p := f.view.port(h.port)
	if h.port == LocalPort || p == nil || !p.ready || p.cfg.NoSuppression || p.blocked != nil && p.blocked.has(f.vid) {
		return false
	}
	v.Reply = appendAnswer(v.buf[:0], f.p.Frame, &f.h, &v.neigh, h.mac, h.router)
	s.suppression.answered.Add(1)
	if repeated && f.view.floods() {
		s.suppression.again.Add(1)
		return false
	}
	return true
}

// ask returns the host that an address is assigned to, and whether asker has just asked for it.
func (a *assigned) ask(key neighborKey, asker MAC, sec uint32) (h assignedHost, repeated, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h, ok = a.addrs[key]; !ok {
		return h, false, false
	}
	slot := &a.asked[(uint64(asker)*0x9e3779b97f4a7c15+uint64(key.ip[15])*0xbf58476d1ce4e5b9)>>56]
	repeated = slot.key == key && slot.asker == asker && since(sec, slot.at) < retryGap
	if !repeated {
		*slot = askedOnce{key, asker, sec}
	}
	return h, repeated, true
}

// isLocal reports whether a host on our LAN has lately shown that it has an address.
func (t *neighbors) isLocal(key neighborKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, known := t.table[key]
	return known && b.port == LocalPort
}

// addAssigned adds the assigned hosts to a list of entries, in place of those that were learned
// and do not count.
func (s *Switch) addAssigned(view *view, list []Entry) []Entry {
	if s.assigned.count.Load() == 0 {
		return list
	}
	addrs := s.assigned.addresses()
	learned := make(map[uint64]bool, len(list))
	for i := range list {
		if e := &list[i]; e.Kind == KindLocal || e.Kind == KindStatic {
			learned[entryKey(e.VLAN, e.MAC)] = true
		}
	}
	var out []Entry
	all := make(map[uint64]bool)
	for n := range s.assigned.shards {
		shard := s.assigned.shards[n].Load()
		if shard == nil {
			continue
		}
		for key, a := range *shard {
			if learned[key] && !a.sticky {
				continue // it lives on our LAN now
			}
			all[key] = true
			p := view.port(a.port)
			out = append(out, Entry{
				MAC: keyMAC(key), VLAN: keyVID(key), Port: a.port, Kind: KindAssigned, Seq: a.seq, Sticky: a.sticky, Addrs: addrs[key],
				Blocked: p != nil && p.blocked != nil && p.blocked.has(keyVID(key)),
			})
		}
	}
	for i := range list {
		if key := entryKey(list[i].VLAN, list[i].MAC); !all[key] || list[i].Kind == KindStatic {
			out = append(out, list[i])
		}
	}
	return out
}

// addresses returns the assigned IP addresses of each host, by the key of its MAC.
func (a *assigned) addresses() map[uint64][]netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[uint64][]netip.Addr, len(a.addrs))
	for key, h := range a.addrs {
		at := entryKey(key.vid, h.mac)
		out[at] = append(out[at], netip.AddrFrom16(key.ip).Unmap())
	}
	return out
}

package l2

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// EntryKind says how an entry came into the forwarding database. Its text is what `tunctl fdb`
// shows.
type EntryKind string

// The kinds of entry.
const (
	KindLearned  EntryKind = "learned" // learned from a peer's frames or announcements
	KindLocal    EntryKind = "local"   // learned from frames that arrived at the TAP
	KindStatic   EntryKind = "static"  // pinned
	KindAssigned EntryKind = "control" // assigned (assigned.go)
)

// Entry is an entry of the forwarding database, or a MAC pinned by the configuration, whose VLAN is
// AnyVLAN.
type Entry struct {
	MAC    MAC
	VLAN   uint16
	Port   PortID
	Kind   EntryKind
	Age    time.Duration // since a frame was last seen, in whole seconds; 0 for static entries
	Frozen time.Duration // for how long the entry will still not move; 0: not frozen
	Moves  int           // how often it changed its port within the last freezeWindow seconds
	// The IP addresses of the host, as far as ARP and neighbour discovery have shown them.
	Addrs []netip.Addr
	// Those of Addrs for which neighbour advertisements were seen, and whether these call the host
	// a router.
	Advertised []netip.Addr
	Router     bool
	Blocked    bool   // the loop guard has blocked the port in the VLAN
	Seq        uint32 // of an assigned host: how often it has moved in all
	Sticky     bool   // an assigned host that never appears on our own LAN
}

// AnyVLAN stands for every VLAN in the Entry of a MAC pinned by PortConfig, and in
// PortStatus.Blocked.
const AnyVLAN = everyVLAN

// Entries returns the forwarding database and the MACs pinned by PortConfig, sorted by VLAN, then
// by MAC. A MAC pinned by PortConfig is one entry, in whatever VLANs it was seen. The caller owns
// the result.
func (s *Switch) Entries(now boottime.Time) []Entry {
	view, addrs := s.view.Load(), s.hosts.addresses()
	all := s.fdb.entries(now)
	out := make([]Entry, 0, len(all)+len(view.pinned))
	pinned := make(map[MAC]Entry, len(view.pinned))
	for mac, id := range view.pinned {
		pinned[mac] = Entry{MAC: mac, VLAN: AnyVLAN, Port: id, Kind: KindStatic}
	}
	for _, e := range all {
		for _, ip := range addrs[entryKey(e.VLAN, e.MAC)] {
			e.addAddr(ip.Addr)
			if ip.advert {
				e.Advertised, e.Router = append(e.Advertised, ip.Addr), e.Router || ip.router
			}
		}
		if p, ok := pinned[e.MAC]; ok && p.Port == e.Port {
			for _, ip := range e.Addrs {
				p.addAddr(ip)
			}
			pinned[e.MAC] = p
			continue
		}
		p := view.port(e.Port)
		e.Blocked = p != nil && p.blocked != nil && p.blocked.has(e.VLAN)
		out = append(out, e)
	}
	for _, e := range pinned {
		out = append(out, e)
	}
	out = s.addAssigned(view, out)
	for i := range out {
		slices.SortFunc(out[i].Addrs, netip.Addr.Compare)
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Or(cmp.Compare(a.VLAN, b.VLAN), cmp.Compare(a.MAC, b.MAC)) })
	return out
}

// addAddr adds an address that is not there yet.
func (e *Entry) addAddr(ip netip.Addr) {
	if !slices.Contains(e.Addrs, ip) {
		e.Addrs = append(e.Addrs, ip)
	}
}

// Filter selects entries. The zero Filter selects all learned entries.
type Filter struct {
	Port   *PortID // nil: all
	VLAN   *uint16 // nil: all
	MAC    *MAC    // nil: all
	Static bool    // include entries made by Pin
}

// Flush removes the selected entries and returns their number. MACs pinned by PortConfig are not
// affected.
func (s *Switch) Flush(f Filter) int {
	return s.fdb.flush(func(e *Entry) bool {
		return (f.Port == nil || *f.Port == e.Port) && (f.VLAN == nil || *f.VLAN == e.VLAN) &&
			(f.MAC == nil || *f.MAC == e.MAC) && (f.Static || e.Kind != KindStatic)
	})
}

// Errors of Pin.
var (
	ErrNoPort  = errors.New("no such port")
	ErrBadPin  = errors.New("not a unicast MAC, or not a VLAN")
	ErrPinned  = errors.New("pinned to another port by the configuration")
	ErrPinFull = errors.New("the forwarding database is full")
)

// Pin adds a static entry, which replaces any other: the MAC lives at port id in the VLAN and
// nowhere else. It returns ErrNoPort, ErrBadPin, ErrPinned or ErrPinFull if it cannot.
func (s *Switch) Pin(now boottime.Time, vid uint16, mac MAC, id PortID) error {
	view := s.view.Load()
	switch owner, pinned := view.pinned[mac]; {
	case view.port(id) == nil:
		return ErrNoPort
	case mac == 0 || mac > Broadcast || mac.Group() || vid > maxVID:
		return ErrBadPin
	case pinned && owner != id:
		return ErrPinned
	}
	if !s.fdb.pin(entryKey(vid, mac), id, now) {
		return ErrPinFull
	}
	return nil
}

// PortStatus is the state of a port as shown in status output.
type PortStatus struct {
	ID       PortID
	Name     string
	Up       bool // the peer has a session
	Ethernet bool // frames are sent to the peer
	Entries  int  // learned
	Blocked  []uint16
	OurLAN   []uint16 // those of Blocked in which the LAN behind it is ours, which has two gateways
	Standby  []uint16 // VLANs in which the peer reaches our LAN by another gateway
	BPDU     bool     // blocked by BPDU guard
	// What its hello said, without secrets; Node is 0 before the first hello.
	Peer Hello
	// Frames received here and dropped, by the reason names of package drop.
	Drops map[string]uint64
}

// Ports returns the state of all ports, the TAP first, then by id. Blocked lists VLANs: 0 for
// untagged frames, AnyVLAN for all, and so do OurLAN and Standby. The caller owns the result.
func (s *Switch) Ports(now boottime.Time) []PortStatus {
	counts := s.fdb.counts()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []PortStatus{{
		ID: LocalPort, Name: s.name(LocalPort), Up: true, Ethernet: true, Drops: s.local.drops.Snapshot(), Entries: counts[LocalPort],
	}}
	for id, p := range s.ports {
		out = append(out, PortStatus{
			ID: id, Name: s.name(id), Up: p.up, Ethernet: p.up && p.cfg.Ethernet && p.peer.ethernet, Entries: counts[id],
			Standby: slices.Sorted(maps.Keys(p.standby)),
			BPDU:    int64(now) < p.state.bpduUntil.Load(),
			Peer:    Hello{Ethernet: p.peer.ethernet, Hub: p.peer.hub, MTU: p.peer.mtu, Node: p.peer.node},
			Drops:   p.state.drops.Snapshot(),
		})
	}
	slices.SortFunc(out, func(a, b PortStatus) int { return cmp.Compare(a.ID, b.ID) })
	for _, b := range s.blocks {
		for i := range out {
			if out[i].ID == b.port {
				out[i].Blocked = append(out[i].Blocked, b.vid)
				if b.other == LocalPort {
					out[i].OurLAN = append(out[i].OurLAN, b.vid)
				}
			}
		}
	}
	return out
}

// Drops returns how many frames received at the port were dropped for the reason; 0 for an unknown
// port.
func (s *Switch) Drops(id PortID, reason drop.Reason) uint64 {
	if p := s.view.Load().port(id); p != nil {
		return p.state.drops.Get(reason)
	}
	return 0
}

// entries lists the table. It holds mu for the whole walk, about 0.1 ms, which is acceptable
// because operators ask rarely.
func (t *fdb) entries(now boottime.Time) []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Entry, 0, t.count)
	t.each(func(slot int32) { out = append(out, t.entry(slot, second(now))) })
	return out
}

// each calls visit for every slot in use. mu is held; visit may remove the entry.
func (t *fdb) each(visit func(slot int32)) {
	for n := range t.buckets {
		for w := range t.buckets[n].keys {
			if t.buckets[n].keys[w].Load() != 0 {
				visit(int32(n)*ways + int32(w))
			}
		}
	}
}

func (t *fdb) entry(slot int32, sec uint32) Entry {
	key, v := t.keyAt(slot), t.value(slot)
	e := Entry{MAC: keyMAC(key), VLAN: keyVID(key), Port: v.port(), Kind: KindLearned}
	if c := &t.cold[slot]; c.hostLen != 0 {
		ip, _ := netip.AddrFromSlice(c.host[:c.hostLen])
		e.Addrs = []netip.Addr{ip}
	}
	switch {
	case v&flagStatic != 0:
		e.Kind = KindStatic
		return e
	case v.port() == LocalPort:
		e.Kind = KindLocal
	}
	e.Age = time.Duration(since(sec, t.seenAt(slot))) * time.Second
	if c := &t.cold[slot]; since(sec, c.movesFrom) < freezeWindow {
		e.Moves = int(c.moves)
	}
	if v&flagFrozen != 0 {
		e.Frozen = time.Duration(since(t.cold[slot].frozenUntil, sec)) * time.Second
	}
	return e
}

// recent returns at most n entries of the ports that want selects, most recently seen first.
func (t *fdb) recent(want func(PortID) bool, n int) []Entry {
	type seenEntry struct {
		Entry
		seen uint32
	}
	t.mu.Lock()
	var all []seenEntry
	t.each(func(slot int32) {
		if v := t.value(slot); want(v.port()) {
			all = append(all, seenEntry{t.entry(slot, 0), t.seenAt(slot)})
		}
	})
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b seenEntry) int { return cmp.Compare(b.seen, a.seen) })
	out := make([]Entry, min(n, len(all)))
	for i := range out {
		out[i] = all[i].Entry
	}
	return out
}

// flush removes the entries that gone selects and returns their number.
func (t *fdb) flush(gone func(*Entry) bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	t.each(func(slot int32) {
		if e := t.entry(slot, 0); gone(&e) {
			t.remove(slot)
			n++
		}
	})
	t.forgetHomes(0, gone)
	return n
}

// flushPort removes the learned entries and the claims of a port. If static is set, it also removes
// its static entries and all other state of the port.
func (t *fdb) flushPort(id PortID, static bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each(func(slot int32) {
		v := t.value(slot)
		switch {
		case v.port() == id && (static || v&flagStatic == 0):
			t.remove(slot)
		case v&flagClaimed != 0 && t.cold[slot].claim.by == id:
			t.dropClaim(slot, v)
		}
		if c := &t.cold[slot]; c.origin == id {
			c.moves = 0 // an entry must not be frozen at a port that is down
		}
	})
	t.forgetHomes(0, func(e *Entry) bool { return e.Port == id })
	if static {
		delete(t.ports, id)
	}
}

// pin adds a static entry, replacing any other. It returns false if there is no room.
func (t *fdb) pin(key uint64, port PortID, now boottime.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, slot, ok := t.findLocked(key); ok {
		t.remove(slot)
	}
	return t.insert(key, port, second(now), flagStatic) >= 0
}

// counts returns the number of learned entries by port.
func (t *fdb) counts() map[PortID]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := make(map[PortID]int, len(t.ports))
	for id, p := range t.ports {
		m[id] = p.n
	}
	return m
}

// takeFull returns the ports that reached a limit since the last call.
func (t *fdb) takeFull() []PortID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var full []PortID
	for id, p := range t.ports {
		if p.full {
			p.full = false
			full = append(full, id)
		}
	}
	return full
}

// fullPorts returns the ports that have as many learned entries as they may.
func (t *fdb) fullPorts() map[PortID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	full := make(map[PortID]bool)
	for id, p := range t.ports {
		if p.n > 0 && p.n >= p.limit || t.count >= t.maximum {
			full[id] = true
		}
	}
	return full
}

// frozenAmong returns those of the given keys whose entries are frozen.
func (t *fdb) frozenAmong(keys []uint64) map[uint64]Entry {
	if len(keys) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	frozen := make(map[uint64]Entry)
	for _, key := range keys {
		if v, slot, ok := t.findLocked(key); ok && v&flagFrozen != 0 {
			frozen[key] = t.entry(slot, 0)
		}
	}
	return frozen
}

package l2

import (
	"cmp"
	"slices"
	"time"

	"tund/internal/boottime"
)

// Saved is what a switch knows that its successor in another process has to know as well, so that a
// restart floods no frames, takes no MAC address from its host and opens no loop: what hosts and
// peers have told, and which ports are blocked. It contains the secrets of loop probes, and so
// prints as "(hidden)". All of it can be encoded by encoding/gob.
//
// Left out is what comes again within a second (neighbours, groups), and what the caller has
// another source for: pinned and assigned addresses, stations of the bridge.
type Saved struct {
	Secret, Own, LAN [16]byte
	Derived          uint64 // secrets derived from Own so far
	LANProbes        map[uint16]boottime.Time
	Ports            map[PortID]SavedPort // those that are up and have sent a hello
	Entries          []SavedEntry
	Blocks           []SavedBlock
}

// String hides the secrets.
func (Saved) String() string { return "(hidden)" }

// GoString hides the secrets.
func (Saved) GoString() string { return "(hidden)" }

// SavedPort is what a switch knows of the peer behind a port.
type SavedPort struct {
	Key             [16]byte // of the peer's tag in our probes
	Ethernet, Hub   bool
	MTU             int
	Node, Since     uint64
	Secret, PeerKey [16]byte
	Clock           int64
	NamesVLAN       bool
	PVID            uint16
	Keyed           bool
	VLANs           []byte
	Standby         map[uint16]boottime.Time
	Active          map[uint16]bool
}

// String hides the secrets.
func (SavedPort) String() string { return "(hidden)" }

// GoString hides the secrets.
func (SavedPort) GoString() string { return "(hidden)" }

// SavedEntry is a learned MAC address.
type SavedEntry struct {
	MAC       MAC
	VLAN      uint16
	Port      PortID
	AgedOut   bool // only where it was last is remembered; see home.go
	Weak      bool // the same, and it was seen within a single second only
	Seen      uint32
	Created   uint32
	Moves     uint8
	MovesFrom uint32
	Origin    PortID
	From      PortID
	Frozen    uint32 // second until which it does not move; 0: it may move
	Host      []byte // its IP address; empty: not known
}

// SavedBlock is a port that the loop guard has blocked.
type SavedBlock struct {
	Port, Cause, Other PortID
	VID                uint16
	Since, Until       boottime.Time
	Probe              boottime.Time
	Gap                time.Duration // of the rhythm
	Long               int           // the same
	Again              bool
}

// Save returns what a successor needs. Nothing may be forwarded any more.
func (s *Switch) Save() Saved {
	entries := s.fdb.save()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Saved{
		Secret: s.secret, Own: s.own, LAN: s.lan, Derived: s.derived, LANProbes: s.lanProbes, Ports: make(map[PortID]SavedPort),
		Entries: entries,
	}
	for id, p := range s.ports {
		if !p.up || !p.peer.known {
			continue
		}
		i := &p.peer
		out.Ports[id] = SavedPort{
			Key: p.key, Ethernet: i.ethernet, Hub: i.hub, MTU: i.mtu, Node: i.node, Since: i.since, Secret: i.secret, PeerKey: i.key,
			Clock: i.clock, NamesVLAN: i.namesVLAN, PVID: i.pvid, Keyed: i.keyed, VLANs: i.vlans, Standby: p.standby, Active: p.active,
		}
	}
	for _, b := range s.blocks {
		out.Blocks = append(out.Blocks, SavedBlock{
			Port: b.port, Cause: b.cause, Other: b.other, VID: b.vid, Since: b.since, Until: b.until, Probe: b.probe,
			Gap: b.rhythm.gap, Long: b.rhythm.long, Again: b.again,
		})
	}
	return out
}

// Continue gives a new switch, which forwards nothing yet and has its ports, what another process
// has saved. renamed returns the port that has the peer of a port of then; ok is false if there is
// none, or its session does not go on: what was known there is left out. Ports that go on are up,
// and are sent a hello at the next Tick. saved is not retained.
func (s *Switch) Continue(now boottime.Time, saved *Saved, renamed func(PortID) (id PortID, ok bool)) {
	rename := func(id PortID) (PortID, bool) {
		if id == LocalPort {
			return LocalPort, true
		}
		return renamed(id)
	}
	s.mu.Lock()
	s.secret, s.own, s.lan, s.derived = saved.Secret, saved.Own, saved.LAN, max(s.derived, saved.Derived)
	for vid, at := range saved.LANProbes {
		s.lanProbes[vid] = at
	}
	up := make(map[PortID]bool)
	for id, old := range saved.Ports {
		today, ok := rename(id)
		p := s.ports[today]
		if !ok || p == nil {
			continue
		}
		up[id] = true
		p.key, p.up, p.helloAt, p.tries = old.Key, true, dueNow, 0
		p.peer = peerInfo{
			known: true, ethernet: old.Ethernet, hub: old.Hub, mtu: old.MTU, node: old.Node, mac: switchMAC(old.Node), secret: old.Secret,
			clock: old.Clock, namesVLAN: old.NamesVLAN, pvid: old.PVID, keyed: old.Keyed, key: old.PeerKey, since: old.Since,
			vlans: slices.Clone(old.VLANs),
		}
		p.standby, p.active = old.Standby, old.Active
		s.helloSeq = max(s.helloSeq, old.Since)
	}
	there := func(id PortID) (PortID, bool) {
		if id != LocalPort && !up[id] {
			return 0, false
		}
		return rename(id)
	}
	for _, b := range saved.Blocks {
		s.continueBlock(b, there)
	}
	s.querier.soon(now)
	s.watchAt, s.watchUntil = dueNow, now.Add(watchTime)
	s.rebuild()
	s.mu.Unlock()
	view := s.view.Load()
	if !view.cfg.NoLearning {
		s.fdb.continueEntries(saved.Entries, second(now), there, view)
	}
}

// continueBlock blocks a port again. mu is held.
func (s *Switch) continueBlock(b SavedBlock, there func(PortID) (PortID, bool)) {
	port, ok1 := there(b.Port)
	cause, ok2 := there(b.Cause)
	other, ok3 := there(b.Other)
	if !ok1 || !ok2 || !ok3 || port == LocalPort {
		return
	}
	s.blocks = append(s.blocks, block{
		port: port, cause: cause, other: other, vid: b.VID, since: b.Since, until: b.Until, probe: b.Probe, again: b.Again,
		rhythm: rhythm{gap: b.Gap, long: b.Long},
	})
}

// save lists the entries that are worth keeping.
func (t *fdb) save() (list []SavedEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each(func(slot int32) {
		v, key, c := t.value(slot), t.keyAt(slot), &t.cold[slot]
		if v&flagStatic != 0 {
			return
		}
		e := SavedEntry{
			MAC: keyMAC(key), VLAN: keyVID(key), Port: v.port(), Seen: t.seenAt(slot), Created: c.created, Moves: c.moves,
			MovesFrom: c.movesFrom, Origin: c.origin, From: c.from, Host: slices.Clone(c.host[:c.hostLen]),
		}
		if v&flagFrozen != 0 {
			e.Frozen = c.frozenUntil
		}
		list = append(list, e)
	})
	for key, h := range t.homes {
		list = append(list, SavedEntry{
			MAC: keyMAC(key), VLAN: keyVID(key), Port: h.port, AgedOut: true, Weak: h.weak, Seen: h.seen, Host: slices.Clone(h.host[:h.hostLen]),
		})
	}
	// A port evicts those first that were learned first.
	slices.SortFunc(list, func(a, b SavedEntry) int { return cmp.Compare(a.Created, b.Created) })
	return list
}

// continueEntries adds the entries that another process has saved, as far as they could be learned
// with the present configuration. there names the port of today.
func (t *fdb) continueEntries(list []SavedEntry, sec uint32, there func(PortID) (PortID, bool), view *view) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		e := &list[i]
		port, ok := there(e.Port)
		if !ok || !view.couldLearn(e, port) {
			continue
		}
		key := entryKey(e.VLAN, e.MAC)
		if e.AgedOut {
			t.continueHome(key, e, port)
			continue
		}
		if _, _, known := t.findLocked(key); known {
			continue
		}
		var flags entryValue
		if e.Frozen > sec {
			flags = flagFrozen
		}
		slot := t.insert(key, port, e.Seen, flags)
		if slot < 0 {
			continue
		}
		c := &t.cold[slot]
		c.created, c.moves, c.movesFrom, c.frozenUntil = e.Created, e.Moves, e.MovesFrom, e.Frozen
		t.name(slot, e.Host)
		if c.origin, ok = there(e.Origin); !ok {
			c.origin = port
		}
		c.from, _ = there(e.From)
	}
}

// continueHome remembers where an aged-out MAC was. mu is held.
func (t *fdb) continueHome(key uint64, e *SavedEntry, port PortID) {
	p := t.port(port)
	if p.homes >= p.limit || e.Weak && p.weakHomes >= p.limit/2 || len(t.homes) >= t.maximum {
		return
	}
	h := home{port: port, seen: e.Seen, weak: e.Weak}
	h.hostLen = uint8(copy(h.host[:], e.Host))
	t.keepHome(key, h)
}

// couldLearn reports whether a MAC could be learned at a port.
func (v *view) couldLearn(e *SavedEntry, port PortID) bool {
	if owner, pinned := v.pinned[e.MAC]; pinned && owner != port || e.MAC == 0 || e.MAC > Broadcast || e.MAC.Group() || e.VLAN > maxVID {
		return false
	}
	p := v.port(port)
	if p == nil || !p.cfg.Ethernet || len(p.cfg.MACs) > 0 && !slices.Contains(p.cfg.MACs, e.MAC) {
		return false
	}
	_, carried := p.vlans.egress(e.VLAN)
	return carried || port == LocalPort
}

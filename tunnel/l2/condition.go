package l2

import (
	"cmp"
	"slices"
	"time"

	"tund/internal/boottime"
)

// ConditionKind names what a Condition is about. Its text is part of status output and never
// changes.
type ConditionKind string

// The kinds of condition. Those of refusals are named after the drop reason that counts them.
const (
	// The peer does not carry Ethernet with us.
	CondNoEthernet ConditionKind = "no-ethernet"
	// The peer would carry Ethernet, and is not configured for it here.
	CondUnwanted ConditionKind = "unwanted-ethernet"
	// The peer does not answer as a tund with [tap].
	CondSilent ConditionKind = "no-switch"
	// The MTUs of both ends differ.
	CondMTU ConditionKind = "mtu"
	// The VLANs of both ends differ.
	CondVLANs ConditionKind = "vlans"
	// The port is blocked: the LAN behind it is joined to another.
	CondLoop ConditionKind = "loop"
	// The local LAN contains a loop.
	CondLANLoop ConditionKind = "lan-loop"
	// One of two gateways of a LAN stands by.
	CondRedundant ConditionKind = "redundant-gateway"
	// A MAC moved too often.
	CondFrozen ConditionKind = "mac-frozen"
	// The peer uses the MAC of a living host.
	CondSpoof ConditionKind = "mac-in-use"
	// The port is blocked by BPDU guard.
	CondBPDU ConditionKind = "bpdu"
	// There are more MACs than the port may have.
	CondMACs ConditionKind = "mac-limit"
	// The peer's node name changes too often.
	CondRename ConditionKind = "node-name"

	CondVLANRefused  ConditionKind = "vlan-refused"
	CondDoubleTag    ConditionKind = "double-tag"
	CondDHCP         ConditionKind = "guard-dhcp"
	CondRA           ConditionKind = "guard-ra"
	CondBroadcast    ConditionKind = "storm-broadcast"
	CondMulticast    ConditionKind = "storm-multicast"
	CondUnknownStorm ConditionKind = "storm-unknown-unicast"
)

var refusalConditions = [refusalKinds]ConditionKind{
	refusedVLAN: CondVLANRefused, refusedDoubleTag: CondDoubleTag, refusedDHCP: CondDHCP, refusedRA: CondRA,
	refusedBroadcast: CondBroadcast, refusedMulticast: CondMulticast, refusedUnknown: CondUnknownStorm,
	refusedMACs: CondMACs, refusedFrozen: CondFrozen, refusedRename: CondRename,
}

// Condition is a state of the switch that an operator should know of. It is listed from its
// beginning to its end, unlike an Event, which is reported once.
type Condition struct {
	Kind   ConditionKind
	Port   PortID
	Name   string // of Port
	MAC    MAC    // of the host concerned; 0: none, or not known
	VLAN   uint16 // of MAC
	Text   string // what it is, without a trailing period
	Remedy string // what to do about it
	// Nothing is wrong: a second gateway stands by, as it should.
	Note  bool
	Since boottime.Time
}

// conditionKey tells conditions apart.
type conditionKey struct {
	kind  ConditionKind
	port  PortID
	other PortID
	mac   MAC // for kinds of which a port may have several
	vid   uint16
	told  bool
	where byte
}

const (
	// maxConditions bounds the list: there are few for each peer, and whoever has more than this
	// reads them from the top.
	maxConditions = 1024
	maxFrozen     = 64 // frozen MACs that are listed
	// eventHold is how long an incident is listed after it was last seen: a use of another host's
	// MAC, a probe of ours that came back from our LAN.
	eventHold = 10 * time.Second
)

// spoof is the last use of a living host's MAC by the peer at a port.
type spoof struct {
	at    boottime.Time // 0: none
	mac   MAC
	vid   uint16
	owner PortID
}

// Conditions returns the present conditions, those that began first at the beginning. They are at
// most one second old. The caller owns the slice.
func (s *Switch) Conditions() []Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conditions)
}

// review renews the list of conditions, if that is due, and tells peers what is refused.
func (s *Switch) review(now boottime.Time) {
	s.mu.Lock()
	due := !now.Before(s.watchAt)
	frozen := slices.Clone(s.frozen)
	s.mu.Unlock()
	if !due {
		return
	}
	full := s.fdb.fullPorts()
	still := s.fdb.frozenAmong(frozen)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchAt = now.Add(watchInterval)
	s.frozen = slices.DeleteFunc(s.frozen, func(key uint64) bool {
		_, frozenStill := still[key]
		return !frozenStill && slices.Contains(frozen, key)
	})
	r := reviewing{s: s, now: now, full: full}
	r.frozenMACs(still)
	r.lan()
	r.blocks()
	for id, p := range s.ports {
		if p.up {
			r.peer(id, p)
		}
	}
	s.renew(now, r.list)
}

// renew replaces the conditions. Those that were there before keep their beginning; refusals that
// begin or end are reported as events. mu is held.
func (s *Switch) renew(now boottime.Time, list []found) {
	was := s.began
	s.began = make(map[conditionKey]boottime.Time, len(list))
	s.conditions = s.conditions[:0]
	for _, one := range list {
		if _, twice := s.began[one.key]; twice || len(s.conditions) >= maxConditions {
			continue
		}
		since, old := was[one.key]
		if !old {
			since = now
			if one.report {
				s.event(now, Event{Kind: EventCondition, Port: one.Port, Text: one.Text + "; " + one.Remedy})
			}
		}
		s.began[one.key] = since
		one.Since, one.Name = since, s.name(one.Port)
		s.conditions = append(s.conditions, one.Condition)
	}
	slices.SortStableFunc(s.conditions, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Kind, b.Kind))
	})
}

// found is a condition and what tells it from others.
type found struct {
	Condition
	key    conditionKey
	report bool // its beginning is an event
}

// reviewing is one review of all ports. Switch.mu is held.
type reviewing struct {
	s    *Switch
	now  boottime.Time
	full map[PortID]bool // ports at their limit of MACs
	list []found
	ours []refusal // what is refused at the TAP
}

func (r *reviewing) add(key conditionKey, c Condition) *found {
	c.Kind, c.Port = key.kind, key.port
	r.list = append(r.list, found{Condition: c, key: key})
	return &r.list[len(r.list)-1]
}

// lan reviews the TAP.
func (r *reviewing) lan() {
	s := r.s
	s.localWatch = s.localWatch.read(r.now, s.local, true)
	r.ours = s.localWatch.active(r.now, s.local, func(one refusal) bool { return s.mended(&s.localPort, one, r.full[LocalPort]) })
	for _, one := range r.ours {
		r.refusal(LocalPort, one, false)
	}
	for vid, at := range s.lanLoops {
		if r.now.Sub(at) > eventHold {
			delete(s.lanLoops, vid)
			continue
		}
		r.add(conditionKey{kind: CondLANLoop, vid: vid}, lanLoopWords(vid))
	}
}

// frozenMACs lists the MACs that have moved too often, where they are.
func (r *reviewing) frozenMACs(frozen map[uint64]Entry) {
	for _, e := range frozen {
		r.add(conditionKey{kind: CondFrozen, port: e.Port, mac: e.MAC, vid: e.VLAN}, frozenWords(r.s.name(e.Port), e.MAC, e.VLAN))
	}
}

// blocks lists the ports that the loop guard has blocked, each with all VLANs concerned.
func (r *reviewing) blocks() {
	type pair struct {
		port, other PortID
		note        bool
	}
	vlans := make(map[pair]*vlanSet)
	for i := range r.s.blocks {
		b := &r.s.blocks[i]
		// Of two gateways of a remote LAN, and of ours if a peer uses them as such, one stands by.
		key := pair{b.port, b.other, b.other != LocalPort || r.s.hasRole(b.vid)}
		if vlans[key] == nil {
			vlans[key] = new(vlanSet)
		}
		vlans[key].add(b.vid)
	}
	for key, set := range vlans {
		c := loopWords(r.s.name(key.port), r.s.name(key.other), key.other == LocalPort, key.note, set)
		kind := CondLoop
		if key.note {
			kind = CondRedundant
		}
		r.add(conditionKey{kind: kind, port: key.port, other: key.other}, c)
	}
}

// hasRole reports whether a peer uses us as one of two gateways of our LAN in the VLAN. mu is held.
func (s *Switch) hasRole(vid uint16) bool {
	for _, p := range s.ports {
		_, standby := p.standby[vid]
		if standby || p.active[vid] {
			return true
		}
	}
	return false
}

// peer reviews the port of a peer that has a session.
func (r *reviewing) peer(id PortID, p *slowPort) {
	s := r.s
	p.watch = p.watch.read(r.now, p.state, false)
	full := r.full[id]
	refused := p.watch.active(r.now, p.state, func(one refusal) bool { return s.mended(p, one, full) })
	differ := r.hello(id, p)
	for _, one := range refused {
		// Differing VLANs and frozen MACs are listed already.
		if one.kind != refusedFrozen && !(differ && one.kind == refusedVLAN) {
			r.refusal(id, one, false)
		}
	}
	if p.peer.known {
		s.tellRefused(r.now, id, p, refused, r.ours)
	}
	r.told(id, p, differ)
	r.incidents(id, p)
}

// hello lists where the peer and we disagree, and reports whether it is about VLANs.
func (r *reviewing) hello(id PortID, p *slowPort) (vlans bool) {
	s, name := r.s, r.s.name(id)
	switch ours := int(s.maxMTU.Load()); {
	case p.cfg.Ethernet && !p.peer.known:
		if p.tries >= silentTries {
			r.add(conditionKey{kind: CondSilent, port: id}, silentWords(name))
		}
		return false
	case p.cfg.Ethernet && !p.peer.ethernet:
		r.add(conditionKey{kind: CondNoEthernet, port: id}, noEthernetWords(name))
		return false
	case !p.cfg.Ethernet:
		if p.peer.ethernet {
			r.add(conditionKey{kind: CondUnwanted, port: id}, unwantedWords(name))
		}
		return false
	case p.peer.mtu != ours:
		r.add(conditionKey{kind: CondMTU, port: id}, mtuWords(name, p.peer.mtu, ours, s.local.longest.Load()))
	}
	if p.peer.vlans == nil {
		return false
	}
	m := newMembership(p.cfg.VLANs, p.cfg.PVID, s.cfg.QinQ)
	mine := m.onWire()
	if mine.isBitmap(p.peer.vlans) {
		return false
	}
	var theirs vlanSet
	theirs.setBitmap(p.peer.vlans)
	key, _ := p.lastRefused()
	r.add(conditionKey{kind: CondVLANs, port: id}, vlansWords(name, &mine, &theirs, key))
	return true
}

// lastRefused returns an example of a frame in a VLAN that only one end carries: one that we have
// refused, or one that the peer says it has.
func (p *slowPort) lastRefused() (key uint64, told bool) {
	if p.watch == nil {
		return 0, false
	}
	if p.watch.series[refusedVLAN].seconds > 0 {
		return p.state.samples[refusedVLAN].Load(), false
	}
	for _, one := range p.watch.told {
		if one.kind == refusedVLAN && one.mac != 0 {
			return entryKey(one.vid, one.mac), true
		}
	}
	return 0, false
}

// refusal lists something that the port refuses, or that its peer says it refuses.
func (r *reviewing) refusal(id PortID, one refusal, told bool) {
	words := r.s.refusalWords(id, one, told)
	words.MAC, words.VLAN = one.mac, one.vid
	key := conditionKey{kind: refusalConditions[one.kind], port: id, told: told, where: one.where}
	r.add(key, words).report = true
}

// told lists what the peer says it refuses, as far as we still send it.
func (r *reviewing) told(id PortID, p *slowPort, differ bool) {
	if p.watch == nil || len(p.watch.told) == 0 {
		return
	}
	if r.now.Sub(p.watch.toldAt) > refusedValid {
		p.watch.told = nil
		return
	}
	m := newMembership(p.cfg.VLANs, p.cfg.PVID, r.s.cfg.QinQ)
	for _, one := range p.watch.told {
		_, carried := m.fromWire(one.vid)
		if one.kind == refusedVLAN && (differ || !carried) {
			continue
		}
		if vid, ok := m.fromWire(one.vid); ok && one.vid != noVLAN && one.kind != refusedVLAN {
			one.vid = vid
		}
		r.refusal(id, one, true)
	}
}

// incidents lists what happened at the port lately.
func (r *reviewing) incidents(id PortID, p *slowPort) {
	name := r.s.name(id)
	if int64(r.now) < p.state.bpduUntil.Load() {
		r.add(conditionKey{kind: CondBPDU, port: id}, bpduWords(name))
	}
	if p.watch != nil && p.watch.spoof.at != 0 {
		if o := &p.watch.spoof; r.now.Sub(o.at) <= eventHold {
			r.add(conditionKey{kind: CondSpoof, port: id}, spoofWords(name, r.s.name(o.owner), o.mac, o.vid))
		} else {
			o.at = 0
		}
	}
	if len(p.standby) > 0 {
		set := new(vlanSet)
		for vid := range p.standby {
			set.add(vid)
		}
		r.add(conditionKey{kind: CondRedundant, port: id}, standbyWords(name, set))
	}
}

package l2

import (
	"encoding/binary"
	"slices"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Refusals: what a port has been refusing lately, and what its peer says it refuses.
//
// A frame that is refused is counted, and nobody at the site of its sender would ever know. Once a
// second the switch therefore looks at the counters of those refusals that an operator can do
// something about. What is refused repeatedly becomes a condition (condition.go), and the peer is
// told of it in a control message, so that status shows it at both ends. The message is repeated
// every refusedRepeat, and sent once more with an empty list when nothing is refused any more. What
// a peer says about itself is shown under its name. It has no other effect: it changes neither what
// is forwarded nor what status says about other peers.

// refusalKind is a kind of refusal. The numbers are those on the wire.
type refusalKind uint8

const (
	refusedVLAN      refusalKind = iota + 1 // a VLAN that the port does not carry
	refusedDoubleTag                        // several tags, or a service tag
	refusedDHCP                             // what only a DHCP server sends
	refusedRA                               // router advertisements and redirects
	refusedBroadcast                        // over a storm limit
	refusedMulticast
	refusedUnknown
	refusedMACs   // more MACs than the port may have
	refusedFrozen // a MAC that moved too often
	refusedRename // too many changes of the node name
	refusalKinds
)

const (
	watchInterval   = time.Second
	refusedRepeat   = 5 * time.Second
	refusedValid    = 12 * time.Second // without a message, of which two may be lost
	refusedEntryLen = 10
	maxRefused      = 32 // entries read from one message: more than there are kinds and places

	// Where frames are refused: those of the receiver of the message, or those that the LAN of its
	// sender sends.
	refusedFromPeer = 0
	refusedOnLAN    = 1
)

// refusalRule says when refusals of a kind become a condition. The times are chosen so that a
// condition does not come and go with traffic that repeats, such as ARP and the retries of DHCP,
// and yet ends soon after its cause. Most causes are settings, whose change ends it at once.
type refusalRule struct {
	reason  drop.Reason   // of the counter that shows it; None: the switch notes it by itself
	seconds int           // in how many different seconds it has to occur
	hold    time.Duration // how long it lasts after the last refusal
	local   bool          // it is watched at the TAP, too
}

func (k refusalKind) rule() refusalRule {
	switch k {
	case refusedVLAN:
		return refusalRule{drop.VLANRefused, 2, time.Minute, false}
	case refusedDoubleTag:
		return refusalRule{drop.DoubleTag, 2, time.Minute, true}
	case refusedDHCP:
		return refusalRule{drop.GuardDHCP, 1, time.Minute, false}
	case refusedRA:
		return refusalRule{drop.GuardRA, 1, time.Minute, false}
	case refusedBroadcast:
		return refusalRule{drop.StormBroadcast, 2, 10 * time.Second, true}
	case refusedMulticast:
		return refusalRule{drop.StormMulticast, 2, 10 * time.Second, true}
	case refusedUnknown:
		return refusalRule{drop.StormUnknown, 2, 10 * time.Second, true}
	case refusedFrozen:
		return refusalRule{drop.MACFrozen, 1, 10 * time.Second, false}
	}
	return refusalRule{drop.None, 1, time.Minute, true} // refusedMACs, refusedRename
}

// sampled returns the kind of refusal of which a frame dropped for a reason is an example, or 0.
func sampled(reason drop.Reason) refusalKind {
	switch reason {
	case drop.VLANRefused:
		return refusedVLAN
	case drop.DoubleTag:
		return refusedDoubleTag
	case drop.GuardDHCP:
		return refusedDHCP
	case drop.GuardRA:
		return refusedRA
	case drop.StormBroadcast:
		return refusedBroadcast
	case drop.StormMulticast:
		return refusedMulticast
	case drop.StormUnknown:
		return refusedUnknown
	case drop.MACLimit:
		return refusedMACs
	case drop.MACFrozen:
		return refusedFrozen
	}
	return 0
}

// countDrop counts the frame for its port, and keeps it as an example of its kind of refusal.
func (f *frameInfo) countDrop(reason drop.Reason) {
	state := f.in.state
	state.drops.Add(reason, uint64(f.p.segments()))
	if reason == drop.OversizeFrame {
		state.longest.Store(entryKey(f.vid, f.h.Src))
	}
	kind := sampled(reason)
	if kind == 0 || f.h.Src == 0 {
		return
	}
	vid := f.vid
	if kind == refusedVLAN || kind == refusedDoubleTag {
		vid = f.h.VID() // it belongs to no VLAN of ours
	}
	state.samples[kind].Store(entryKey(vid, f.h.Src))
}

// series is a sequence of refusals of one kind at a port.
type series struct {
	count   uint64 // of the counter when it was last read
	seconds int    // in which something was refused
	last    boottime.Time
}

func (r *series) note(now boottime.Time) { r.seconds, r.last = r.seconds+1, now }

// watch is what the switch has seen at one port. It is guarded by Switch.mu.
type watch struct {
	series [refusalKinds]series

	spoof  spoof
	told   []refusal // by the peer, about itself
	toldAt boottime.Time
	said   []refusal // to the peer
	saidAt boottime.Time
}

// refusal is an entry of the message of type 6.
type refusal struct {
	kind  refusalKind
	where byte
	vid   uint16 // number on the wire; noVLAN: not known
	mac   MAC    // of the last frame that was refused; 0: not known
}

// read updates the series of a port from its counters. w is nil as long as nothing was refused.
func (w *watch) read(now boottime.Time, state *portState, local bool) *watch {
	for k := refusedVLAN; k < refusalKinds; k++ {
		rule := k.rule()
		if rule.reason == drop.None || local && !rule.local {
			continue
		}
		n := state.drops.Get(rule.reason)
		if n == 0 || w != nil && w.series[k].count == n {
			continue
		}
		if w == nil {
			w = new(watch)
		}
		r := &w.series[k]
		if now.Sub(r.last) > rule.hold {
			r.seconds = 0
		}
		r.count = n
		r.note(now)
	}
	return w
}

// active returns what is being refused, with examples. mended says that the cause of a refusal is
// gone, which ends its series.
func (w *watch) active(now boottime.Time, state *portState, mended func(refusal) bool) (list []refusal) {
	if w == nil {
		return nil
	}
	for k := refusedVLAN; k < refusalKinds; k++ {
		r, rule := &w.series[k], k.rule()
		if r.seconds == 0 {
			continue
		}
		one := refusal{kind: k, vid: noVLAN}
		if key := state.samples[k].Load(); key != 0 {
			one.vid, one.mac = keyVID(key), keyMAC(key)
		}
		switch {
		case now.Sub(r.last) > rule.hold || mended(one):
			r.seconds = 0
		case r.seconds >= rule.seconds:
			list = append(list, one)
		}
	}
	return list
}

// forget ends the series whose cause may be the configuration of the peer, which has changed.
func (w *watch) forget() {
	if w != nil {
		for _, k := range [...]refusalKind{refusedVLAN, refusedDoubleTag, refusedRename} {
			w.series[k].seconds = 0
		}
	}
}

// watchOf returns the watch of a port, which it makes if there is none yet. mu is held.
func (s *Switch) watchOf(id PortID) *watch {
	at := &s.localWatch
	if id != LocalPort {
		p := s.ports[id]
		if p == nil {
			return new(watch)
		}
		at = &p.watch
	}
	if *at == nil {
		*at = new(watch)
	}
	return *at
}

// noteRefused records a refusal that no counter shows.
func (s *Switch) noteRefused(now boottime.Time, id PortID, kind refusalKind) {
	s.mu.Lock()
	s.watchOf(id).series[kind].note(now)
	s.mu.Unlock()
}

// mended reports whether the settings no longer refuse what the peer at a port sent. full has the
// ports at their limit of MACs. mu is held.
func (s *Switch) mended(p *slowPort, r refusal, full bool) bool {
	switch r.kind {
	case refusedVLAN:
		m := newMembership(p.cfg.VLANs, p.cfg.PVID, s.cfg.QinQ)
		_, ok := m.fromWire(r.vid)
		return ok
	case refusedDoubleTag:
		return s.cfg.QinQ
	case refusedDHCP:
		return p.cfg.TrustDHCP
	case refusedRA:
		return p.cfg.TrustRA
	case refusedBroadcast, refusedMulticast, refusedUnknown:
		return s.cfg.stormLimits(&p.cfg)[r.kind-refusedBroadcast] < 0
	case refusedMACs:
		return !full
	}
	return false
}

// tellRefused tells the peer at a port what is refused: of its own frames, and of those of our LAN
// in VLANs that it carries. mu is held.
func (s *Switch) tellRefused(now boottime.Time, id PortID, p *slowPort, own, lan []refusal) {
	if p.watch == nil && len(lan) == 0 {
		return
	}
	list := slices.Clone(own)
	vlans := newMembership(p.cfg.VLANs, p.cfg.PVID, s.cfg.QinQ)
	for i := range list {
		if k := list[i].kind; k != refusedVLAN && k != refusedDoubleTag && list[i].vid != noVLAN {
			list[i].vid, _ = vlans.wire(list[i].vid)
		}
	}
	for _, r := range lan {
		wire, ok := vlans.wire(r.vid)
		if r.vid == noVLAN {
			wire, ok = noVLAN, true
		}
		if r.where, r.vid = refusedOnLAN, wire; ok {
			list = append(list, r)
		}
	}
	w := s.watchOf(id)
	if slices.Equal(list, w.said) && (len(list) == 0 || now.Sub(w.saidAt) < refusedRepeat) {
		return
	}
	// The example changes with each frame; what is refused does not, and is said at once.
	if now.Sub(w.saidAt) < refusedRepeat && slices.EqualFunc(list, w.said, sameRefusal) {
		return
	}
	w.said, w.saidAt = list, now
	b := appendControl(nil, controlRefused, len(list)*refusedEntryLen)
	for _, r := range list {
		b = append(b, byte(r.kind), r.where)
		b = binary.BigEndian.AppendUint16(b, r.vid)
		b = append(b, 0, 0, 0, 0, 0, 0)
		r.mac.Put(b[len(b)-6:])
	}
	s.toPeer(id, b)
}

func sameRefusal(a, b refusal) bool { return a.kind == b.kind && a.where == b.where }

// takeRefused records what a peer says it refuses, in place of what it said before.
func (s *Switch) takeRefused(now boottime.Time, p *port, body []byte) drop.Reason {
	if !p.cfg.Ethernet {
		return drop.NotEthernetPeer
	}
	var list []refusal
	for n := 0; len(body) >= refusedEntryLen && n < maxRefused; n++ {
		r := refusal{
			kind: refusalKind(body[0]), where: body[1], vid: binary.BigEndian.Uint16(body[2:]) & vidMask, mac: MACFromBytes(body[4:]),
		}
		body = body[refusedEntryLen:]
		known := r.kind >= refusedVLAN && r.kind < refusalKinds && r.where <= refusedOnLAN
		if known && !slices.ContainsFunc(list, func(o refusal) bool { return sameRefusal(o, r) }) {
			list = append(list, r)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watchOf(p.id)
	w.told, w.toldAt = list, now
	s.watchAt = dueNow
	return drop.None
}

// withoutPeer returns what remains of a watch when the session ends: only the counts.
func (w *watch) withoutPeer() *watch {
	if w == nil {
		return nil
	}
	next := new(watch)
	for k := range w.series {
		next.series[k].count = w.series[k].count
	}
	return next
}

// noteFrozen records a MAC that has been frozen.
func (s *Switch) noteFrozen(key uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.frozen, key) && len(s.frozen) < maxFrozen {
		s.frozen = append(s.frozen, key)
	}
}

// noteSpoof records that the peer at a port used the MAC of a living host.
func (s *Switch) noteSpoof(id PortID, o spoof) {
	s.mu.Lock()
	s.watchOf(id).spoof = o
	s.mu.Unlock()
}

package view

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"tund/internal/names"
	"tund/internal/registry/record"
)

// Hosts on the LANs of sites.
//
// A site says which hosts it has (record.Stations). Of the sites that have one MAC address in one
// VLAN, one wins, and it is the same everywhere, because only signed documents decide: the site to
// whose grant the signers gave the address; then one that says that its host does not move; then
// the one with the highest sequence number, which a site takes when the host appears there (RFC
// 7432 §7.7); then the grant that precedes.
//
// Here, too, absence is no command. A host goes when its site says so in a newer document, when
// that document has expired, when another site has it, or with its site. What the store no longer
// shows stays as it was, except that no address of a site is answered for while the store shows us
// as present, and not that site.
const (
	// MaxHosts bounds the hosts of all sites, as tund does.
	MaxHosts = 65_536
	// MaxNeighbors bounds the IP addresses that are answered for, as tund does: with more, all that
	// tund is told would not fit into one request.
	MaxNeighbors = 65_536
	// maxConflicts bounds the conflicts that a decision names.
	maxConflicts = 256
	// hostsPerSite bounds those of a site whose grant has no max_macs.
	hostsPerSite = 1024
	// maxParts bounds the documents of one site about hosts, which are kept.
	maxParts = 512

	// Moves of one host: with the fifth within moveWindow it is frozen where it is, for FreezeTime
	// (RFC 7432 §15.1).
	FreezeMoves = 5
	moveWindow  = 180 * time.Second
	// FreezeTime is for how long nobody claims a frozen host.
	FreezeTime = 300 * time.Second
	// maxMoved bounds the hosts whose moves are remembered.
	maxMoved = 4096
)

// HostID is a MAC address, in lower case with colons, in a VLAN.
type HostID struct {
	VLAN uint16
	MAC  string
}

// Compare orders hosts by VLAN, then by MAC.
func (h HostID) Compare(o HostID) int {
	return cmp.Or(cmp.Compare(h.VLAN, o.VLAN), cmp.Compare(h.MAC, o.MAC))
}

// Host is what a site says of a host.
type Host struct {
	HostID
	Site    record.Site
	Station record.Station
	Granted bool // the signers gave the address to the site
}

// AddrID is an IP address in a VLAN.
type AddrID struct {
	VLAN uint16
	IP   netip.Addr
}

// Compare orders addresses by VLAN, then by IP.
func (a AddrID) Compare(o AddrID) int {
	return cmp.Or(cmp.Compare(a.VLAN, o.VLAN), a.IP.Compare(o.IP))
}

// part is a document about hosts.
type part struct {
	text  []byte
	doc   record.Stations
	saved bool // text was in an Entry
}

// newPart leaves out the addresses that routers share: they say by their election where one is, and
// it may be at several sites in turn, or at none.
func newPart(text []byte, doc record.Stations) *part {
	doc.Stations = slices.DeleteFunc(doc.Stations, func(s record.Station) bool {
		mac, err := names.Station(s.MAC)
		return err == nil && names.SharedStation(mac)
	})
	return &part{text: text, doc: doc}
}

type partID struct {
	vlan uint16
	part uint8
}

// moves are those of one host that were seen.
type moves struct {
	times []time.Time // the newest FreezeMoves
}

// putStations takes a document about hosts.
func (v *View) putStations(key string, parts []string, value []byte, now time.Time) error {
	vlan, err := strconv.ParseUint(parts[1], 10, 16)
	where, err2 := record.ParseID(parts[2])
	number, err3 := strconv.ParseUint(parts[3], 16, 8)
	id := partID{uint16(vlan), uint8(number)}
	if err != nil || err2 != nil || err3 != nil || record.StationsKey(where, id.vlan, id.part) != key {
		return v.refuse(BadKey, key, nil)
	}
	if !v.o.Ethernet || where != v.o.Self && len(v.o.VLANs) > 0 && !slices.Contains(v.o.VLANs, id.vlan) {
		return nil // of no interest here
	}
	s := v.sites[where]
	if s == nil {
		return v.refuse(NoGrant, key, nil)
	}
	known := s.parts[id]
	if known != nil && bytes.Equal(value, known.text) {
		return nil
	}
	doc, err := s.grant.Stations(value, now)
	switch {
	case err != nil:
		return v.refuse(BadValue, key, err)
	case doc.VLAN != id.vlan || doc.Part != id.part:
		return v.refuse(Misplaced, key, nil)
	case known != nil && !doc.Newer(&known.doc):
		return v.refuse(Replayed, key, fmt.Errorf("epoch %d serial %d, after %d and %d", doc.Epoch, doc.Serial, known.doc.Epoch, known.doc.Serial))
	case known == nil && len(s.parts) >= maxParts:
		return v.refuse(TooMany, key, nil)
	}
	if s.parts == nil {
		s.parts = make(map[partID]*part)
	}
	s.parts[id], v.redoHosts = newPart(value, doc), true
	return nil
}

// carries reports whether a site carries a VLAN with others.
func (s *site) carries(vlan uint16) bool {
	if s.rec == nil || !slices.Contains(s.rec.Capabilities, record.CapEthernet) {
		return false
	}
	if len(s.rec.VLANs) == 0 {
		return vlan == 0
	}
	return slices.Contains(s.rec.VLANs, vlan) && slices.Contains(s.grant.VLANs, vlan)
}

// each calls take for the hosts of a site that count, as many as it may have.
func (l *lan) each(v *View, id record.Site, s *site, now time.Time, take func(Host)) {
	limit := cmp.Or(s.grant.MaxMACs, hostsPerSite)
	ids := make([]partID, 0, len(s.parts))
	for part := range s.parts {
		ids = append(ids, part)
	}
	slices.SortFunc(ids, func(a, b partID) int { return cmp.Or(cmp.Compare(a.vlan, b.vlan), cmp.Compare(a.part, b.part)) })
	for _, part := range ids {
		p := s.parts[part]
		if p.doc.Expired(now) || id != v.o.Self && !s.carries(part.vlan) {
			continue
		}
		l.due(p.doc.NotAfter.Add(record.Slack+1), now) // Expired is true after that moment
		for i := range p.doc.Stations {
			h := Host{HostID{part.vlan, p.doc.Stations[i].MAC}, id, p.doc.Stations[i], false}
			if !s.grant.Permits(h.VLAN, h.MAC) { // the grant may be newer than the document
				continue
			}
			if limit--; limit < 0 {
				l.surplus++
				return
			}
			h.Granted = len(s.grant.MACs) > 0
			take(h)
		}
	}
}

// beats reports whether a host is where h says, and not where o does.
func (v *View) beats(h, o *Host) bool {
	rank := func(h *Host) int {
		switch {
		case h.Granted:
			return 2
		case h.Station.Sticky:
			return 1
		}
		return 0
	}
	a, b := rank(h), rank(o)
	switch {
	case a != b:
		return a > b
	case a == 0 && h.Station.Seq != o.Station.Seq:
		return h.Station.Seq > o.Station.Seq
	}
	if h.Site == o.Site { // in two documents, while a host passes from one part to another
		return h.Station.Seq > o.Station.Seq
	}
	return v.sites[h.Site].grant.Precedes(&v.sites[o.Site].grant)
}

// lan is what was decided about hosts. It is not changed afterwards.
type lan struct {
	version         uint64 // of the decision
	hosts, rivals   map[HostID]Host
	neighbors       map[AddrID]Host
	frozen          []HostID
	conflicts       []string
	surplus, absent int
	next            time.Time // when it may change although nothing new is known; zero: never
}

// due notes that something may change at a moment.
func (l *lan) due(at, now time.Time) {
	if at.After(now) && (l.next.IsZero() || at.Before(l.next)) {
		l.next = at
	}
}

// hosts fills in where hosts are, as in the last decision unless something about them may have
// changed: a site may have thousands, and decisions are made every few seconds.
func (v *View) hosts(d *Decision, now time.Time) {
	if l := &v.lan; v.redoHosts || now.Before(v.lanAt) || !l.next.IsZero() && !now.Before(l.next) {
		v.lan = v.decideHosts(now, l.version+1)
		v.redoHosts = false
	}
	v.lanAt = now
	l := &v.lan
	d.Hosts, d.Rivals, d.Neighbors, d.Frozen, d.HostsVersion = l.hosts, l.rivals, l.neighbors, l.frozen, l.version
	d.Surplus, d.Absent = l.surplus, l.absent
	d.Conflicts = append(d.Conflicts, l.conflicts...)
	slices.Sort(d.Conflicts)
	d.Conflicts = slices.Compact(d.Conflicts)
	d.Conflicts = d.Conflicts[:min(len(d.Conflicts), maxConflicts)]
}

// decideHosts decides where hosts are as if nothing had been decided before.
func (v *View) decideHosts(now time.Time, version uint64) lan {
	l := lan{version: version, hosts: make(map[HostID]Host), rivals: make(map[HostID]Host), neighbors: make(map[AddrID]Host)}
	if !v.o.Ethernet {
		return l
	}
	take := func(h Host) {
		best, there := l.hosts[h.HostID]
		switch {
		case !there && len(l.hosts) >= MaxHosts:
			l.surplus++
			return
		case !there || v.beats(&h, &best):
			l.hosts[h.HostID] = h
		}
		if h.Site == v.o.Self {
			return
		}
		if rival, there := l.rivals[h.HostID]; !there || v.beats(&h, &rival) {
			l.rivals[h.HostID] = h
		}
	}
	for _, id := range v.order() {
		l.each(v, id, v.sites[id], now, take)
	}
	v.watchMoves(&l, now)
	v.neighbors(&l)
	return l
}

// order returns the sites whose hosts count, ascending.
func (v *View) order() []record.Site {
	ids := make([]record.Site, 0, len(v.inForce)+1)
	for id := range v.inForce {
		if len(v.sites[id].parts) > 0 {
			ids = append(ids, id)
		}
	}
	if s := v.sites[v.o.Self]; s != nil && len(s.parts) > 0 && !s.isRevoked() {
		ids = append(ids, v.o.Self)
	}
	slices.SortFunc(ids, compare)
	return ids
}

// neighbors fills in which host has which IP address.
func (v *View) neighbors(l *lan) {
	self := v.sites[v.o.Self]
	strict := v.o.Leases && self != nil && self.up
	for _, h := range l.hosts {
		if strict && h.Site != v.o.Self && !v.sites[h.Site].up {
			l.absent++
			continue
		}
		for _, ip := range h.Station.IPs {
			id := AddrID{h.VLAN, ip}
			other, taken := l.neighbors[id]
			if taken && other.MAC != h.MAC && other.Site != h.Site {
				l.conflicts = append(l.conflicts, fmt.Sprintf("%v in VLAN %d is used by hosts of %s and %s", ip, h.VLAN,
					min(v.Name(h.Site), v.Name(other.Site)), max(v.Name(h.Site), v.Name(other.Site))))
			}
			if !taken || v.prefers(&h, &other) {
				l.neighbors[id] = h
			}
		}
	}
	slices.Sort(l.conflicts)
	l.conflicts = slices.Compact(l.conflicts)
	l.conflicts = l.conflicts[:min(len(l.conflicts), maxConflicts)]
	if len(l.neighbors) > MaxNeighbors { // the same ones every time, and everywhere
		for _, id := range slices.SortedFunc(maps.Keys(l.neighbors), AddrID.Compare)[MaxNeighbors:] {
			delete(l.neighbors, id)
			l.surplus++
		}
	}
}

// prefers decides between two hosts that have one IP address.
func (v *View) prefers(h, o *Host) bool {
	a, b := h.Granted || h.Station.Sticky, o.Granted || o.Station.Sticky
	switch {
	case a != b:
		return a
	case h.Site != o.Site:
		return v.sites[h.Site].grant.Precedes(&v.sites[o.Site].grant)
	}
	return h.MAC < o.MAC
}

package agent

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"tund/internal/control"
	"tund/internal/events"
	"tund/internal/names"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// Hosts on our LAN: what tund has learned there is published, and what other sites have published
// is handed to tund.

const (
	// stationsLife is for how long a document about hosts counts: an agent may be away for so long.
	stationsLife = view.Silence
	// linger is for how long a host is still published that tund no longer has on our LAN: tund may
	// have been restarted, and has to hear it again.
	linger = time.Minute
	// lookPause is the least time between two looks at tund's forwarding database.
	lookPause = 300 * time.Millisecond
	// fill is how many hosts a part has on average when there are more than one.
	fill = record.MaxStations / 2
	// maxPartsOfVLAN bounds the documents of one VLAN, and with them the hosts that are published.
	maxPartsOfVLAN = 256
	// followPause is how long an agent waits when tund does not let it follow events.
	followPause = 5 * time.Second
)

// LAN is what a Daemon tells of our LAN. A Daemon that does not implement it has none.
type LAN interface {
	FDB(context.Context) (control.FDBTable, error)
	Follow(ctx context.Context, after *uint64, kinds []events.Kind, each func(*events.Event, []byte) error) error
}

// Holder is a Store that forgets some documents a while after the agent is gone (a lease).
type Holder interface {
	// Hold keeps the document of a key in the store for as long as the agent is there. It returns
	// at once; what cannot be written is tried again.
	Hold(key string, value []byte)
	// HoldError returns why documents could not be written lately; nil: all were.
	HoldError() error
}

// StaticHost is a host that is on our LAN whether or not tund hears it.
type StaticHost struct {
	view.HostID
	IPs    []netip.Addr
	Router bool
}

// ownHosts is what is known of the hosts on our LAN.
type ownHosts struct {
	lan    LAN // nil: no frames
	news   chan struct{}
	dirty  bool      // something was learned or forgotten since the last look
	looked time.Time // when tund's forwarding database was read last
	seen   map[view.HostID]seenHost
	parts  map[uint16]int // number of parts of each VLAN
	failed bool           // the last look has failed
	// sharing are the ports of sites that serve our own LAN as well, as of the last look.
	sharing []control.BlockedPort
	// standby are the peers that reach our LAN by another gateway of it, as of the last look.
	standby []control.StandbyPort
	raised  map[view.HostID]time.Time // when a host was last taken from another site

	serial uint64
}

// toldHosts is what tund is told of the hosts of all sites. Its maps are not changed.
type toldHosts struct {
	version uint64 // of the decision; 0: nothing was told
	hosts   map[view.HostID]control.HostEntry
	addrs   map[view.AddrID]control.NeighborEntry
}

// seenHost is a host that tund has, or had, on our LAN.
type seenHost struct {
	at     time.Time
	ips    []netip.Addr
	router bool
}

func newOwnHosts(o *Options) ownHosts {
	h := ownHosts{
		news: make(chan struct{}, 1), dirty: true, seen: make(map[view.HostID]seenHost), parts: make(map[uint16]int),
		raised: make(map[view.HostID]time.Time),
	}
	if o.View.Ethernet {
		h.lan, _ = o.Daemon.(LAN)
	}
	return h
}

// followLAN reports whenever tund's forwarding database has changed, until ctx ends.
func (a *Agent) followLAN(ctx context.Context) {
	kinds := []events.Kind{events.MACLearned, events.MACMoved, events.MACGone, events.MACLost, events.Neighbor}
	for ctx.Err() == nil {
		_ = a.own.lan.Follow(ctx, nil, kinds, func(e *events.Event, _ []byte) error {
			if slices.Contains(kinds, e.Kind) {
				select {
				case a.own.news <- struct{}{}:
				default:
				}
			}
			return nil
		}) // everything is looked at every few seconds, whatever the reason
		timer := time.NewTimer(followPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look reads what tund has on our LAN, if that may have changed. It reports whether it has looked.
func (a *Agent) look(ctx context.Context, now time.Time) bool {
	h := &a.own
	if h.lan == nil || now.Sub(h.looked) < lookPause || !h.dirty && now.Sub(h.looked) < beat {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h.looked, h.dirty = now, false
	table, err := h.lan.FDB(ctx)
	h.failed = err != nil
	a.warn("the hosts on our LAN", err)
	if err != nil {
		return false
	}
	h.sharing, h.standby = nil, nil
	for _, instance := range table.Instances {
		for _, p := range instance.Blocked {
			if p.OurLAN {
				h.sharing = append(h.sharing, p)
			}
		}
		h.standby = append(h.standby, instance.Standby...)
		for i := range instance.FDB {
			h.note(&instance.FDB[i], now)
		}
	}
	return true
}

// note takes an entry of tund's forwarding database.
func (h *ownHosts) note(e *control.FDBEntry, now time.Time) {
	if e.Kind != "local" || e.VLAN < 0 || e.VLAN > math.MaxUint16 {
		return
	}
	if mac, err := names.Station(e.MAC); err != nil || names.SharedStation(mac) {
		return // where an address is that routers share, they say by their election
	}
	id := view.HostID{VLAN: uint16(e.VLAN), MAC: e.MAC}
	s := seenHost{at: now, router: e.Router}
	for _, text := range e.IPs {
		ip, err := netip.ParseAddr(text)
		if err == nil && (ip.Is4() || slices.Contains(e.Advertised, text)) && len(s.ips) < record.MaxStationIPs {
			s.ips = append(s.ips, ip)
		}
	}
	h.seen[id] = s
}

// claims returns what we say of the hosts on our LAN. Rivals are where they are if they are not
// here; fresh says that tund was asked for its hosts after it was told of those.
func (a *Agent) claims(d *view.Decision, now time.Time, fresh bool) map[view.HostID]record.Station {
	h := &a.own
	mine := make(map[view.HostID]record.Station)
	for _, doc := range a.view.OwnStations() {
		for _, s := range doc.Stations {
			mine[view.HostID{VLAN: doc.VLAN, MAC: s.MAC}] = s
		}
	}
	h.forgetRaised(now)
	out := make(map[view.HostID]record.Station)
	for _, s := range a.o.Static {
		out[s.HostID] = record.Station{MAC: s.MAC, Seq: mine[s.HostID].Seq, Sticky: true, IPs: s.IPs, Router: s.Router}
	}
	gone := make(map[view.HostID]bool)
	for id, seen := range h.seen {
		if _, fixed := out[id]; fixed {
			continue
		}
		if now.Sub(seen.at) > linger && !h.failed {
			gone[id] = true
			delete(h.seen, id)
			continue
		}
		was, had := mine[id]
		if had && was.Sticky {
			was, had = record.Station{}, false // it was one of the file's
		}
		next, ok := a.claim(d, id, was, had, now, fresh && seen.at.Equal(h.looked))
		switch {
		case !ok, !had && !seen.at.Equal(h.looked):
			continue
		}
		next.IPs, next.Router = seen.ips, seen.router
		out[id] = next
	}
	for id, was := range mine {
		_, seen := h.seen[id]
		if _, there := out[id]; there || seen || gone[id] || was.Sticky {
			continue
		}
		// Published by an earlier run, which tund has not heard in ours.
		h.seen[id] = seenHost{at: now, ips: was.IPs, router: was.Router}
		if next, ok := a.claim(d, id, was, true, now, false); ok {
			next.IPs, next.Router = was.IPs, was.Router
			out[id] = next
		}
	}
	return out
}

// publishHosts writes what we say of the hosts on our LAN, where it has changed. It reports whether
// anything was written.
func (a *Agent) publishHosts(ctx context.Context, d *view.Decision, now time.Time, fresh bool) (wrote bool) {
	g, ok := a.view.Own(now)
	if !ok || !a.listed || a.own.lan == nil && len(a.o.Static) == 0 || !a.o.View.Ethernet {
		return false
	}
	known := a.view.OwnStations()
	for _, doc := range known {
		a.own.serial = max(a.own.serial, doc.Serial)
	}
	wanted := a.documents(&g, a.claims(d, now, fresh))
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if wanted[key] == nil && len(known[key].Stations) > 0 {
			empty := *known[key]
			empty.Stations = []record.Station{}
			wanted[key] = &empty
		}
	}
	var failed error
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		if a.saysHosts(known[key], wanted[key], g.Serial, now) {
			continue
		}
		if err := a.writeHosts(ctx, key, wanted[key], &g, now); err != nil {
			failed = err
			continue
		}
		wrote = true
	}
	a.warn("publish the hosts on our LAN", failed)
	a.status.HostsPublished = 0
	for _, doc := range a.view.OwnStations() {
		a.status.HostsPublished += len(doc.Stations)
	}
	return wrote
}

// saysHosts reports whether a document that we have published says what we want, for long enough.
func (a *Agent) saysHosts(known, want *record.Stations, grant uint64, now time.Time) bool {
	return known != nil && known.Grant == grant && a.published.counts(known.NotAfter, now, stationsLife) &&
		slices.EqualFunc(known.Stations, want.Stations, func(x, y record.Station) bool {
			return x.MAC == y.MAC && x.Seq == y.Seq && x.Sticky == y.Sticky && x.Router == y.Router && slices.Equal(x.IPs, y.IPs)
		})
}

// documents divides what we say of hosts into documents, by key.
func (a *Agent) documents(g *record.Grant, claims map[view.HostID]record.Station) map[string]*record.Stations {
	byVLAN := make(map[uint16][]record.Station)
	refused := 0
	for _, id := range slices.SortedFunc(maps.Keys(claims), view.HostID.Compare) {
		if !g.Permits(id.VLAN, id.MAC) || len(a.o.View.VLANs) > 0 && !slices.Contains(a.o.View.VLANs, id.VLAN) {
			refused++
			continue
		}
		byVLAN[id.VLAN] = append(byVLAN[id.VLAN], claims[id])
	}
	docs := make(map[string]*record.Stations)
	for vlan, list := range byVLAN {
		parts, divided := a.divide(vlan, list)
		refused += len(list) - parts
		for n, stations := range divided {
			docs[record.StationsKey(g.Site, vlan, n)] = &record.Stations{Network: g.Network, Site: g.Site, VLAN: vlan, Part: n, Stations: stations}
		}
	}
	a.status.HostsNotGranted = refused
	return docs
}

// divide divides the hosts of a VLAN by a hash, so that one host that comes or goes changes one
// document. The number of parts grows and does not shrink. It returns how many hosts found room.
func (a *Agent) divide(vlan uint16, list []record.Station) (room int, divided map[uint8][]record.Station) {
	n := max(a.own.parts[vlan], 1)
	for n < maxPartsOfVLAN && len(list) > n*fill && len(list) > record.MaxStations {
		n *= 2
	}
	for {
		divided, room = make(map[uint8][]record.Station), 0
		for _, s := range list {
			hash := fnv.New32a()
			_, _ = hash.Write([]byte(s.MAC))
			part := uint8(hash.Sum32() % uint32(n))
			if len(divided[part]) < record.MaxStations {
				divided[part] = append(divided[part], s)
				room++
			}
		}
		if room == len(list) || n >= maxPartsOfVLAN {
			a.own.parts[vlan] = n
			return room, divided
		}
		n *= 2
	}
}

// writeHosts signs a document and writes it.
func (a *Agent) writeHosts(ctx context.Context, key string, doc *record.Stations, g *record.Grant, now time.Time) error {
	// Counted by the clock, so that a count that was lost is not used again.
	a.own.serial = max(a.own.serial+1, uint64(max(now.UnixMilli(), 1)))
	doc.Grant, doc.Epoch, doc.Serial = g.Serial, 1, a.own.serial
	doc.NotAfter = now.Add(stationsLife).UTC().Truncate(time.Second)
	data, err := record.SignStations(*doc, a.o.Key)
	if err == nil {
		_, err = g.Stations(data, now) // what others would say of it
	}
	if err != nil {
		return err
	}
	if err := a.hold(ctx, key, data); err != nil {
		return err
	}
	a.dirty = true
	return a.view.Put(key, data, now)
}

// hold writes a document that the store need not keep when we are gone.
func (a *Agent) hold(ctx context.Context, key string, data []byte) error {
	if holder, ok := a.o.Store.(Holder); ok {
		holder.Hold(key, data)
		return nil
	}
	return a.o.Store.Put(ctx, key, data)
}

// holdAgain gives the store all that it may have forgotten since the last run.
func (a *Agent) holdAgain() {
	holder, ok := a.o.Store.(Holder)
	if !ok {
		return
	}
	err := holder.HoldError()
	a.warn("lease", err)
	a.status.LeaseError = ""
	if err != nil {
		a.status.LeaseError = err.Error()
	}
	if a.held {
		return
	}
	a.held = true
	holder.Hold("site/"+a.o.View.Self.ID()+"/up", []byte(fmt.Sprintf("{\"since\":%q}\n", time.Now().UTC().Format(time.RFC3339))))
	for key, text := range a.view.OwnDocuments() {
		holder.Hold(key, text)
	}
}

// wantedHosts describes the hosts of all sites for tund.
func (a *Agent) wantedHosts(d *view.Decision, now time.Time) toldHosts {
	t := toldHosts{d.HostsVersion, make(map[view.HostID]control.HostEntry, len(d.Hosts)),
		make(map[view.AddrID]control.NeighborEntry, len(d.Neighbors))}
	for id, h := range d.Hosts {
		if h.Site == a.o.View.Self && !h.Station.Sticky {
			continue // tund has learned it itself
		}
		t.hosts[id] = control.HostEntry{
			HostID: control.HostID{MAC: id.MAC, VLAN: int(id.VLAN)}, Peer: h.Site.String(), Seq: h.Station.Seq,
			Sticky: h.Granted || h.Station.Sticky || a.view.Frozen(id, now),
		}
	}
	for id, h := range d.Neighbors {
		if h.Site != a.o.View.Self {
			t.addrs[id] = control.NeighborEntry{
				NeighborID: control.NeighborID{IP: id.IP.String(), VLAN: int(id.VLAN)}, MAC: h.MAC, Peer: h.Site.String(), Router: h.Station.Router,
			}
		}
	}
	return t
}

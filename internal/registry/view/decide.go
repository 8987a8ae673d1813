package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tund/internal/registry/record"
)

// Peer is a peer that the site is to have. It is the same from one decision to the next while
// nothing about it changes, so it is not to be written to.
type Peer struct {
	Site record.Site
	Key  string // the public key, in base64
	// Values are keys of [[peer]] and what the configuration of tund would say there; Text is that
	// as JSON, which is the same if and only if the values are.
	Values map[string]any
	Text   string
}

// Decision is what a site is to have, and what an operator should know about it.
type Decision struct {
	Peers []Peer // by site, ascending
	// Conflicts are prefixes and addresses that several sites claim, one line each, ascending; not
	// all of them if there are very many.
	Conflicts []string
	// Hosts is where each host is, ours among them, and Rivals where it is if it is not here. These
	// maps, and Neighbors, are not to be written to: they are those of the decision before unless
	// HostsVersion has changed, which is never 0.
	Hosts, Rivals map[HostID]Host
	HostsVersion  uint64
	// Neighbors is which host has which IP address, of the sites that are present.
	Neighbors map[AddrID]Host
	Frozen    []HostID // hosts that have moved too often, ascending
	Surplus   int      // hosts and their addresses beyond a bound, which are passed over
	Absent    int      // hosts whose site is not present
	// Replicators are the names of the sites that pass on broadcasts for others, ascending.
	Replicators []string
	// Held is the number of removals that are held.
	Held int
	// Lacking is how many peers there are whose record the store lacked when all was decided last.
	Lacking int
	// Outdated: a newer list of revocations should have come.
	Outdated bool
	standby  map[netip.Prefix][]record.Site // sites that share a prefix with another

	// Next is when the decision may change although nothing new is known; zero: never.
	Next time.Time
}

// Decide returns the peers that the site is to have now. It costs little while nothing has become
// known but records that concern the peers of their own sites alone.
func (v *View) Decide(now time.Time) Decision {
	var d Decision
	if v.redo || now.Before(v.baseAt) || !now.Before(v.base.Next) {
		d = v.decide(now)
		v.redo, v.redoHosts = false, true
	} else {
		d = v.decideTouched()
	}
	v.touched, v.baseAt = nil, now
	v.base = d
	d.Conflicts = slices.Clone(d.Conflicts) // hosts adds its own
	v.hosts(&d, now)
	d.Outdated = !v.revoked.NextUpdate.IsZero() && now.After(v.revoked.NextUpdate)
	return d
}

// decideTouched is the last decision, with the peers of touched sites described again.
func (v *View) decideTouched() Decision {
	d := v.base
	if len(v.touched) == 0 {
		return d
	}
	d.Peers = slices.Clone(d.Peers)
	for _, id := range v.touched {
		i, there := slices.BinarySearchFunc(d.Peers, id, func(p Peer, id record.Site) int { return compare(p.Site, id) })
		if there {
			d.Peers[i] = v.sites[id].describe(v, id)
		}
	}
	return d
}

// decide decides about the peers as if nothing had been decided before.
func (v *View) decide(now time.Time) Decision {
	var d Decision
	due := func(at time.Time) {
		if at.After(now) && (d.Next.IsZero() || at.Before(d.Next)) {
			d.Next = at
		}
	}
	due(now.Add(GuardHold)) // at the latest, so that nothing is missed by a clock that is set
	wanted := make(map[record.Site]bool, len(v.sites))
	var leaving []record.Site
	for id, s := range v.sites {
		if id == v.o.Self || s.rec == nil {
			continue
		}
		s.checkAbsence(now)
		why := v.leaves(s, now)
		switch {
		case why == "":
			wanted[id] = true
			delete(v.held, id)
			due(s.grant.NotAfter.Add(record.Slack + 1)) // Expired is true after that moment
			if !s.absent.IsZero() {
				d.Lacking++
				due(s.absent.Add(Silence + 1))
			}
		case why == revoked:
			delete(v.held, id) // at once
		case v.inForce[id]:
			leaving = append(leaving, id)
		}
	}
	for _, id := range v.hold(leaving, now) {
		wanted[id] = true
		d.Held++
		due(v.held[id].Add(GuardHold))
	}
	v.inForce = wanted
	v.forget(now)
	v.describe(&d)
	return d
}

// revoked is the reason of a removal that no guard holds.
const revoked = "revoked"

// leaves says why a site is no longer to be a peer; "": it is.
func (v *View) leaves(s *site, now time.Time) string {
	switch {
	case s.isRevoked():
		return revoked
	case s.grant.Expired(now):
		return "expired"
	case s.rec.Gone:
		return "left"
	case !s.absent.IsZero() && now.Sub(s.absent) > Silence && !v.readable.IsZero() && now.Sub(v.readable) >= rewrite:
		return "silent"
	}
	return ""
}

// checkAbsence has an absence count from now on that began after now, or before there was a grant:
// the clock by which it was noted was wrong, as on a host that starts without the right time, or is
// wrong now.
func (s *site) checkAbsence(now time.Time) {
	if !s.absent.IsZero() && (s.absent.After(now) || s.absent.Before(s.grant.NotBefore.Add(-record.Slack))) {
		s.absent = now
	}
}

// Allowance is how many of a number of peers may go in guardWindow without a revocation.
func Allowance(peers int) int { return max(guardLeast, peers/guardShare) }

// hold returns those of the leaving peers that stay for now.
func (v *View) hold(leaving []record.Site, now time.Time) (stay []record.Site) {
	v.removals = slices.DeleteFunc(v.removals, func(t time.Time) bool { return now.Sub(t) >= guardWindow || t.After(now) })
	budget := Allowance(len(v.inForce)) - len(v.removals)
	slices.SortFunc(leaving, compare)
	gone := make(map[record.Site]bool)
	for _, id := range leaving {
		since, waits := v.held[id]
		switch {
		case waits && now.Sub(since) >= GuardHold:
		case waits:
			stay = append(stay, id)
			continue
		case budget > 0:
			budget--
		default:
			v.held[id] = now
			stay = append(stay, id)
			continue
		}
		v.removals = append(v.removals, now)
		gone[id] = true
	}
	for id := range v.held {
		if gone[id] || !v.inForce[id] {
			delete(v.held, id)
		}
	}
	return stay
}

func compare(a, b record.Site) int { return bytes.Compare(a[:], b[:]) }

// forget drops sites that are no peers and never will be: those whose grants have long expired. A
// revoked site is kept until then, so that its grant does not come back as a new one.
func (v *View) forget(now time.Time) {
	for id, s := range v.sites {
		if !v.inForce[id] && id != v.o.Self && now.Sub(s.grant.NotAfter) > Silence {
			v.setPresent(s, false)
			delete(v.sites, id)
		}
	}
}

// describe fills in the peers in force and who has which prefix.
func (v *View) describe(d *Decision) {
	ids := slices.SortedFunc(maps.Keys(v.inForce), compare)
	owner := make(map[netip.Prefix]record.Site, len(ids))
	d.standby = make(map[netip.Prefix][]record.Site)
	rivals := make(map[netip.Prefix][]record.Site)
	for _, id := range ids {
		s := v.sites[id]
		for _, p := range s.claimed() {
			first, taken := owner[p]
			if !taken {
				owner[p] = id
				continue
			}
			other := v.sites[first]
			if s.shares(other) {
				d.standby[p] = append(d.standby[p], id, first)
			}
			if !s.grant.Anycast || !other.grant.Anycast {
				rivals[p] = append(rivals[p], id, first)
			}
			if s.grant.Precedes(&other.grant) {
				owner[p] = id
			}
		}
	}
	for p, sites := range rivals {
		winner := owner[p]
		losers := make(map[string]bool)
		for _, id := range sites {
			if id != winner {
				losers[v.sites[id].grant.Name] = true
			}
		}
		for name := range losers {
			d.Conflicts = append(d.Conflicts, fmt.Sprintf("%v belongs to %s; %s claims it, too", p, v.sites[winner].grant.Name, name))
		}
	}
	slices.Sort(d.Conflicts)
	d.Replicators = v.elect(ids)
	d.Peers = make([]Peer, 0, len(ids))
	for _, id := range ids {
		d.Peers = append(d.Peers, v.sites[id].peer(v, id, owner, d.standby))
	}
	d.standby = nil
}

// maxPriority is the highest priority of a peer in tund.
const maxPriority = 65535

// shares reports whether two sites have a prefix together: the one with the higher priority
// carries, and the other when that is away.
func (s *site) shares(o *site) bool {
	a, b := &s.grant, &o.grant
	return a.Anycast && b.Anycast && a.Priority != b.Priority && min(a.Priority, b.Priority) >= 0 && max(a.Priority, b.Priority) <= maxPriority
}

// peer describes a site, as before if it has the same prefixes as before. A network has thousands
// of sites, of which a change concerns one.
func (s *site) peer(v *View, id record.Site, owner map[netip.Prefix]record.Site, standby map[netip.Prefix][]record.Site) Peer {
	owned := make([]netip.Prefix, 0, 4)
	for _, p := range s.claimed() {
		if owner[p] == id || v.standsBy(id, s, owner[p], standby[p]) {
			owned = append(owned, p)
		}
	}
	if s.described.Key != "" && slices.Equal(owned, s.owned) {
		return s.described
	}
	s.owned = owned
	return s.describe(v, id)
}

// describe describes a site that has the prefixes it has had before.
func (s *site) describe(v *View, id record.Site) Peer {
	values := v.values(id, s.owned)
	text, err := json.Marshal(values)
	if err != nil {
		// They are strings and numbers.
		panic("internal/registry/view: cannot encode a peer: " + err.Error())
	}
	s.described = Peer{id, id.String(), values, string(text)}
	return s.described
}

// values describes a peer as the configuration of tund would.
func (v *View) values(id record.Site, owned []netip.Prefix) map[string]any {
	s := v.sites[id]
	allowed := []any{}
	for _, p := range owned {
		allowed = append(allowed, p.String())
	}
	endpoints := []any{}
	for _, e := range s.rec.Endpoints {
		endpoints = append(endpoints, e)
	}
	values := map[string]any{
		"name": s.grant.Name, "public_key": id.String(), "allowed_ips": allowed, "endpoint": endpoints,
	}
	if s.grant.Anycast && s.grant.Priority > 0 && s.grant.Priority <= maxPriority {
		values["priority"] = s.grant.Priority
	}
	if v.o.Keepalive > 0 {
		values["keepalive"] = v.o.Keepalive
	}
	if v.o.Ethernet && slices.Contains(s.rec.Capabilities, record.CapEthernet) {
		v.frames(id, s, values)
	}
	return values
}

// standsBy reports whether a site has a prefix beside its owner: if of all that share it and have
// the same priority it is the one that precedes.
func (v *View) standsBy(id record.Site, s *site, owner record.Site, sharing []record.Site) bool {
	if !slices.Contains(sharing, id) || !s.shares(v.sites[owner]) {
		return false
	}
	return !slices.ContainsFunc(sharing, func(other record.Site) bool {
		o := v.sites[other]
		return other != id && o.grant.Priority == s.grant.Priority && o.grant.Precedes(&s.grant)
	})
}

// frames adds what concerns frames.
func (v *View) frames(id record.Site, s *site, values map[string]any) {
	values["ethernet"] = true
	if v.leaf && !v.relays[id] {
		values["bum"] = false
	}
	vlans := []any{}
	for _, vlan := range s.rec.VLANs {
		if slices.Contains(s.grant.VLANs, vlan) {
			vlans = append(vlans, int(vlan))
		}
	}
	if len(vlans) > 0 {
		values["vlans"] = vlans
	}
	if s.grant.MaxMACs > 0 {
		values["max_macs"] = s.grant.MaxMACs
	}
	for key, list := range map[string][]string{"macs": s.grant.MACs, "trust": s.grant.Trust} {
		if len(list) > 0 {
			texts := []any{}
			for _, text := range list {
				texts = append(texts, text)
			}
			values[key] = texts
		}
	}
}

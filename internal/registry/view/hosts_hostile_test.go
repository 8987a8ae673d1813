package view

import (
	"fmt"
	"math"
	"net/netip"
	"testing"

	"tund/internal/registry/record"
)

// A grant that is replaced by a narrower one, or by one for another agent, leaves documents behind
// that it does not cover. A restart forgets neither the peer nor the hosts that still count.
func TestRestore_documentsOfAnEarlierGrant(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*record.Grant){
		"another agent": func(g *record.Grant) { g.VLANs, g.Agent = []uint16{0, 7}, public(3) },
		"no VLAN 7":     func(g *record.Grant) { g.VLANs = []uint16{0} },
	} {
		n := newNetwork(t, 2)
		n.withFrames(2)
		n.grant(1, 1, func(g *record.Grant) { g.VLANs = []uint16{0, 7} })
		n.stations(1, 1, one(1, 0))
		n.stations(1, 1, one(2, 0), func(s *record.Stations) { s.VLAN = 7 })
		v := n.lanView(Options{})
		v.Decide(noon)
		n.grant(1, 2, change)
		key := "grant/" + siteOf(1).ID()
		if err := v.Put(key, n.values[key], noon); err != nil {
			t.Fatal(err)
		}
		again := New(Options{Trust: trust, Self: siteOf(0), Ethernet: true})
		if err := again.Restore(v.Snapshot()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !again.inForce[siteOf(1)] {
			t.Errorf("%s: the peer is not known to be in force", name)
		}
		if got, want := hosts(again, noon), hosts(v, noon); got != want {
			t.Errorf("%s: hosts %q, and before the restart %q", name, got, want)
		}
	}
}

// Whoever had the key of an agent may have written a document that counts as the last of all. The
// grant for a new key puts an end to that.
func TestHosts_aNewGrantOutranksEveryCount(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 2)
	n.withFrames(2)
	old := n.stations(1, math.MaxUint64, one(1, 0), func(s *record.Stations) { s.Epoch = math.MaxUint64 })
	stolen := n.values[old]
	v := n.lanView(Options{})
	n.grant(1, 2)
	key := n.stations(1, 1, one(2, 0), func(s *record.Stations) { s.Grant = 2 })
	if err := v.List(n.values, noon); err != nil {
		t.Errorf("the document that is based on the new grant: %v", err)
	}
	if err := v.Put(key, stolen, noon); err == nil {
		t.Error("the earlier document counts again")
	}
	if got := hosts(v, noon); got != "0/00:02@site-1" {
		t.Errorf("hosts %s", got)
	}
}

// However many addresses sites claim, tund is told of no more than it takes, and of the same ones
// each time; and conflicts about them do not fill the log.
func TestHosts_moreAddressesThanAreTaken(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	n.withFrames(3)
	const each = record.MaxStations * record.MaxStationIPs
	for site := 1; site <= 2; site++ {
		n.grant(site, 1, func(g *record.Grant) { g.MaxMACs = MaxHosts })
		for part := range MaxNeighbors/each + 1 {
			var list []record.Station
			for i := range record.MaxStations {
				s := record.Station{MAC: fmt.Sprintf("02:00:00:%02x:%02x:%02x", site, part, i)}
				for ip := range record.MaxStationIPs {
					s.IPs = append(s.IPs, netip.AddrFrom4([4]byte{10, byte(part), byte(i), byte(ip + 1)}))
				}
				list = append(list, s)
			}
			n.stations(site, 1, list, func(s *record.Stations) { s.Part = uint8(part) })
		}
	}
	d := n.lanView(Options{}).Decide(noon)
	if len(d.Neighbors) != MaxNeighbors || d.Surplus != each {
		t.Errorf("%d addresses, %d too many", len(d.Neighbors), d.Surplus)
	}
	if _, there := d.Neighbors[AddrID{0, netip.MustParseAddr("10.0.0.1")}]; !there {
		t.Error("the first address is missing")
	}
	if len(d.Conflicts) != maxConflicts {
		t.Errorf("%d conflicts", len(d.Conflicts))
	}
}

// The same for the record of a site, which may say that the site is gone. No record is based on a
// grant that is yet to come.
func TestRecord_aNewGrantOutranksEveryCount(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 2)
	key := "site/" + siteOf(1).ID() + "/rec"
	last := func(r *record.Record) { r.Epoch, r.Serial, r.Gone = math.MaxUint64, math.MaxUint64, true }
	n.record(1, 2, func(r *record.Record) { last(r); r.Grant = 9 })
	v := n.view0()
	if err := v.Put(key, n.values[key], noon); err == nil {
		t.Error("a record is based on a grant of the future")
	}
	n.record(1, 2, last)
	stolen := n.values[key]
	if err := v.Put(key, stolen, noon); err != nil {
		t.Fatal(err)
	}
	n.grant(1, 2)
	n.record(1, 1, func(r *record.Record) { r.Grant = 2 })
	if err := v.List(n.values, noon); err != nil {
		t.Errorf("the record that is based on the new grant: %v", err)
	}
	if err := v.Put(key, stolen, noon); err == nil {
		t.Error("the earlier record counts again")
	}
	if got := peerNames(v.Decide(noon)); got != "site-1" {
		t.Errorf("peers %q", got)
	}
}

// view0 returns what site 0 sees, without what site 1 says.
func (n *network) view0() *View {
	n.t.Helper()
	key := "site/" + siteOf(1).ID() + "/rec"
	text := n.values[key]
	delete(n.values, key)
	v := n.view(noon)
	n.values[key] = text
	return v
}

package view

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/registry/record"
)

func mac(n int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&255) }

// withFrames makes the records of sites say that they carry frames.
func (n *network) withFrames(sites int) {
	for i := range sites {
		n.record(i, 1, func(r *record.Record) { r.Capabilities = []string{record.CapEthernet} })
	}
}

// stations puts a document about hosts of a site into the registry and returns its key.
func (n *network) stations(i int, serial uint64, list []record.Station, change ...func(*record.Stations)) string {
	n.t.Helper()
	s := record.Stations{Network: "acme", Site: siteOf(i), Grant: 1, Epoch: 1, Serial: serial, Stations: list, NotAfter: noon.Add(100 * time.Hour)}
	for _, c := range change {
		c(&s)
	}
	key := record.StationsKey(siteOf(i), s.VLAN, s.Part)
	n.values[key] = n.must(record.SignStations(s, private(2)))
	return key
}

func one(m int, seq uint32, ips ...string) []record.Station {
	s := record.Station{MAC: mac(m), Seq: seq}
	for _, ip := range ips {
		s.IPs = append(s.IPs, netip.MustParseAddr(ip))
	}
	return []record.Station{s}
}

// lanView returns what site 0 sees of a network whose sites carry frames.
func (n *network) lanView(o Options) *View {
	n.t.Helper()
	o.Trust, o.Self, o.Ethernet = trust, siteOf(0), true
	v := New(o)
	if err := v.List(n.values, noon); err != nil {
		n.t.Fatal(err)
	}
	return v
}

// hosts describes where hosts are, and who answers for which address.
func hosts(v *View, now time.Time) string {
	d := v.Decide(now)
	var list []string
	for id, h := range d.Hosts {
		list = append(list, fmt.Sprintf("%d/%s@%s", id.VLAN, id.MAC[12:], v.Name(h.Site)))
	}
	for id, h := range d.Neighbors {
		list = append(list, fmt.Sprintf("%v=%s", id.IP, h.MAC[12:]))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestHosts_whoHasAnAddress(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 4)
	n.withFrames(4)
	n.grant(3, 1, func(g *record.Grant) { g.MACs = []string{"02-00-00-00-00-09", mac(8)} })
	n.stations(1, 1, []record.Station{{MAC: mac(1), Seq: 3}, {MAC: mac(2), Seq: 7}, {MAC: mac(3), Sticky: true}, {MAC: mac(9), Seq: 9, Sticky: true}, {MAC: mac(4)}})
	n.stations(2, 1, []record.Station{{MAC: mac(1), Seq: 4}, {MAC: mac(2), Seq: 6}, {MAC: mac(3), Seq: math.MaxUint32}, {MAC: mac(4)}})
	n.stations(3, 1, []record.Station{{MAC: mac(9)}})
	v := n.lanView(Options{})
	// The higher number; what does not move; what was granted; and the site that precedes.
	want := "0/00:01@site-2 0/00:02@site-1 0/00:03@site-1 0/00:04@site-1 0/00:09@site-3"
	if got := hosts(v, noon); got != want {
		t.Errorf("hosts %s\nwant  %s", got, want)
	}
	// Whoever asks, and in whatever order documents come, the answer is the same.
	for range 20 {
		other := New(Options{Trust: trust, Self: siteOf(77), Ethernet: true})
		for range 2 { // those that depend on others are refused at first
			for key, value := range n.values {
				_ = other.Put(key, value, noon)
			}
		}
		other.readable = noon
		if got := hosts(other, noon); got != want {
			t.Fatalf("another site sees %s", got)
		}
	}
	n.revoke(1, 1)
	if err := v.Put("crl", n.values["crl"], noon); err != nil {
		t.Fatal(err)
	}
	if got := hosts(v, noon); got != "0/00:01@site-2 0/00:02@site-2 0/00:03@site-2 0/00:04@site-2 0/00:09@site-3" {
		t.Errorf("after the revocation of site-1: %s", got)
	}
}

// Forged, replayed, misplaced, oversize and foreign documents change nothing.
func TestHosts_documentsThatDoNotCount(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	n.withFrames(3)
	n.grant(1, 1, func(g *record.Grant) { g.MACs, g.VLANs = []string{mac(1)}, []uint16{0, 7} })
	key := n.stations(1, 5, one(1, 2))
	v := n.lanView(Options{})
	if got := hosts(v, noon); got != "0/00:01@site-1" {
		t.Fatal(got)
	}
	good := n.values[key]
	with := func(i int, serial uint64, list []record.Station, change ...func(*record.Stations)) []byte {
		n.stations(i, serial, list, change...)
		return n.values[record.StationsKey(siteOf(i), 0, 0)]
	}
	foreign, _ := record.SignStations(record.Stations{Network: "acme", Site: siteOf(1), Grant: 1, Epoch: 9, Serial: 9, NotAfter: noon.Add(time.Hour)}, private(1))
	many := make([]record.Station, 0, 65)
	for i := range 65 {
		many = append(many, record.Station{MAC: mac(i)})
	}
	if _, err := record.SignStations(record.Stations{Stations: many}, private(2)); err == nil {
		t.Error("a document with 65 hosts is signed")
	}
	for what, test := range map[string]struct {
		key    string
		value  []byte
		reason Refusal
	}{
		"an older one":           {key, with(1, 4, nil), Replayed},
		"the same number":        {key, with(1, 5, nil), Replayed},
		"an address not granted": {key, with(1, 6, one(2, 0)), BadValue},
		"a VLAN not granted":     {record.StationsKey(siteOf(1), 9, 0), with(1, 6, one(1, 0), func(s *record.Stations) { s.VLAN = 0 }), Misplaced},
		"of another part":        {record.StationsKey(siteOf(1), 0, 1), good, Misplaced},
		"of another site":        {key, with(2, 9, one(1, 9)), BadValue},
		"another's signature":    {key, foreign, BadValue},
		"expired":                {key, with(1, 7, one(1, 0), func(s *record.Stations) { s.NotAfter = noon.Add(-time.Hour) }), BadValue},
		"another grant":          {key, with(1, 7, one(1, 0), func(s *record.Stations) { s.Grant = 2 }), BadValue},
		"a record":               {key, n.values["site/"+siteOf(1).ID()+"/rec"], BadValue},
		"cut off":                {key, good[:len(good)/2], BadValue},
		"nothing":                {key, nil, BadValue},
		"huge":                   {key, make([]byte, 2<<20), BadValue},
		"no such site":           {record.StationsKey(siteOf(50), 0, 0), good, NoGrant},
		"a strange key":          {strings.ToUpper(key), good, BadKey},
		"a strange VLAN":         {strings.Replace(key, "l2/0/", "l2/00/", 1), good, BadKey},
	} {
		before := v.Refused()[test.reason]
		if err := v.Put(test.key, test.value, noon); err == nil || v.Refused()[test.reason] != before+1 {
			t.Errorf("%s: %v, %v", what, err, v.Refused())
		}
		if got := hosts(v, noon); got != "0/00:01@site-1" {
			t.Fatalf("%s: %s", what, got)
		}
	}
	// As a store would be that forgets everything: the hosts stay until their document expires.
	if err := v.List(map[string][]byte{}, noon); err != nil {
		t.Fatal(err)
	}
	v.Gone(key, noon)
	if got := hosts(v, noon.Add(99*time.Hour)); got != "0/00:01@site-1" {
		t.Errorf("after the store has forgotten everything: %s", got)
	}
	restored := New(Options{Trust: trust, Self: siteOf(0), Ethernet: true})
	if err := restored.Restore(v.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if got := hosts(restored, noon.Add(99*time.Hour)); got != "0/00:01@site-1" {
		t.Errorf("after a restart: %s", got)
	}
	if err := restored.Put(key, with(1, 4, nil), noon); err == nil {
		t.Error("after a restart an older document counts")
	}
	if got := hosts(restored, noon.Add(101*time.Hour)); got != "" {
		t.Errorf("after its end: %s", got)
	}
}

// Where an address is that routers share, no site says.
func TestHosts_addressesThatRoutersShare(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 2)
	n.withFrames(2)
	n.stations(1, 1, append(one(1, 0), record.Station{MAC: "00:00:5e:00:01:07", Seq: 4}))
	if got := hosts(n.lanView(Options{}), noon); got != "0/00:01@site-1" {
		t.Error(got)
	}
}

// Addresses of a site are answered for while the store shows it as present; its peer and its hosts
// stay where they are.
func TestHosts_presence(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	n.withFrames(3)
	n.stations(1, 1, one(1, 0, "10.0.0.1"))
	n.stations(2, 1, one(2, 0, "10.0.0.2"))
	up := func(i int) string { return "site/" + siteOf(i).ID() + "/up" }
	for i := range 3 {
		n.values[up(i)] = []byte("{}")
	}
	const all = "0/00:01@site-1 0/00:02@site-2 10.0.0.1=00:01 10.0.0.2=00:02"
	v := n.lanView(Options{Leases: true})
	if got := hosts(v, noon); got != all {
		t.Fatal(got)
	}
	v.Gone(up(1), noon)
	if got := hosts(v, noon); got != "0/00:01@site-1 0/00:02@site-2 10.0.0.2=00:02" || peerNames(v.Decide(noon)) != "site-1 site-2" {
		t.Errorf("without the lease of site-1: %s", got)
	}
	delete(n.values, up(0))
	delete(n.values, up(2))
	if err := v.List(n.values, noon); err != nil { // it shows site-1
		t.Fatal(err)
	}
	if sites, self := v.Up(); sites != 1 || self {
		t.Errorf("%d sites are present, ours: %v", sites, self)
	}
	if got := hosts(v, noon); got != all {
		t.Errorf("a store that does not show us as present decides about others: %s", got)
	}
	if got := hosts(n.lanView(Options{}), noon); got != all {
		t.Errorf("without leases: %s", got)
	}
}

func TestHosts_interestAndBounds(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	for i := range 3 {
		n.grant(i, 1, func(g *record.Grant) { g.VLANs, g.MaxMACs = []uint16{0, 7, 9}, 3 })
		n.record(i, 1, func(r *record.Record) { r.Capabilities, r.VLANs = []string{record.CapEthernet}, []uint16{0, 7} })
	}
	for _, vlan := range []uint16{0, 7, 9} {
		n.stations(1, 1, one(1, 0), func(s *record.Stations) { s.VLAN = vlan })
	}
	// VLAN 9 is granted, but the site does not carry it.
	if got := hosts(n.lanView(Options{}), noon); got != "0/00:01@site-1 7/00:01@site-1" {
		t.Errorf("hosts %s", got)
	}
	if got := hosts(n.lanView(Options{VLANs: []uint16{7}}), noon); got != "7/00:01@site-1" {
		t.Errorf("of VLAN 7: %s", got)
	}
	n.stations(2, 1, []record.Station{{MAC: mac(21)}, {MAC: mac(22)}, {MAC: mac(23)}, {MAC: mac(24)}})
	v := n.lanView(Options{VLANs: []uint16{0}})
	d := v.Decide(noon)
	if len(d.Hosts) != 4 || d.Surplus != 1 {
		t.Errorf("%d hosts, %d too many", len(d.Hosts), d.Surplus)
	}
	for part := range 256 {
		n.stations(0, 1, nil, func(s *record.Stations) { s.Part = uint8(part) })
		n.stations(0, 1, nil, func(s *record.Stations) { s.VLAN, s.Part = 7, uint8(part) })
		n.stations(0, 1, nil, func(s *record.Stations) { s.VLAN, s.Part = 9, uint8(part) })
	}
	if err := v.List(n.values, noon); err == nil || v.Refused()[TooMany] != 256 || len(v.sites[siteOf(0)].parts) != maxParts {
		t.Errorf("%v documents are refused, of one site %d are kept: %v", v.Refused(), len(v.sites[siteOf(0)].parts), err)
	}
}

// Two sites with one address: after five moves in a short time it stays, the same everywhere.
func TestHosts_pingPong(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	n.withFrames(3)
	v := n.lanView(Options{})
	id := HostID{0, mac(1)}
	now := noon
	for seq := range uint32(4) {
		key := n.stations(1+int(seq)%2, uint64(seq)+1, one(1, seq))
		if err := v.Put(key, n.values[key], now); err != nil {
			t.Fatal(err)
		}
		if v.Decide(now); v.Frozen(id, now) {
			t.Errorf("frozen after %d moves", seq)
		}
		now = now.Add(10 * time.Second)
	}
	key := n.stations(1, 9, one(1, 4))
	if err := v.Put(key, n.values[key], now); err != nil {
		t.Fatal(err)
	}
	if d := v.Decide(now); !v.Frozen(id, now) || !slices.Equal(d.Frozen, []HostID{id}) {
		t.Errorf("after four moves in 40 s a fifth may follow: %+v", d.Frozen)
	}
	if v.Frozen(id, now.Add(FreezeTime)) {
		t.Error("frozen for ever")
	}
	if v.Decide(now.Add(FreezeTime)); len(v.moved) != 0 {
		t.Error("its moves are remembered for ever")
	}
}

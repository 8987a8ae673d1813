package view

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/registry/record"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func private(n byte) ed25519.PrivateKey {
	seed := [ed25519.SeedSize]byte{n}
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(n byte) record.Key { return record.Key(private(n).Public().(ed25519.PublicKey)) }

var trust = record.Trust{Network: "acme", Signers: []record.Key{public(1)}, Threshold: 1}

// network is a registry of a test, with sites by number.
type network struct {
	t      *testing.T
	values map[string][]byte
}

func newNetwork(t *testing.T, sites int) *network {
	n := &network{t, make(map[string][]byte)}
	for i := range sites {
		n.grant(i, 1)
		n.record(i, 1)
	}
	return n
}

func siteOf(i int) record.Site { return record.Site{1, byte(i >> 8), byte(i)} }

func prefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i)}), 24)
}

func (n *network) must(data []byte, err error) []byte {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
	return data
}

// grant puts a grant of a site into the registry.
func (n *network) grant(i int, serial uint64, change ...func(*record.Grant)) {
	n.t.Helper()
	g := record.Grant{
		Network: "acme", Site: siteOf(i), Agent: public(2), Name: fmt.Sprint("site-", i), Serial: serial,
		Prefixes: []netip.Prefix{prefix(i)}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(1000 * time.Hour),
	}
	for _, c := range change {
		c(&g)
	}
	n.values["grant/"+siteOf(i).ID()] = n.must(record.SignGrant(g, private(1)))
}

// record puts a record of a site into the registry.
func (n *network) record(i int, serial uint64, change ...func(*record.Record)) {
	n.t.Helper()
	r := record.Record{
		Network: "acme", Site: siteOf(i), Grant: 1, Epoch: 1, Serial: serial, Prefixes: []netip.Prefix{prefix(i)},
		Endpoints: []string{"192.0.2.1:51820"}, NotAfter: noon.Add(100 * time.Hour),
	}
	for _, c := range change {
		c(&r)
	}
	n.values["site/"+siteOf(i).ID()+"/rec"] = n.must(record.SignRecord(r, private(2)))
}

func (n *network) revoke(sequence uint64, sites ...int) {
	n.t.Helper()
	r := record.Revocations{Network: "acme", Sequence: sequence, Revoked: map[record.Site]uint64{}}
	for _, i := range sites {
		r.Revoked[siteOf(i)] = 1
	}
	n.values["crl"] = n.must(record.SignRevocations(r, private(1)))
}

// view returns what site 0 sees.
func (n *network) view(now time.Time) *View {
	n.t.Helper()
	v := New(Options{Trust: trust, Self: siteOf(0), Keepalive: 25})
	if err := v.List(n.values, now); err != nil {
		n.t.Fatal(err)
	}
	return v
}

func peerNames(d Decision) string {
	var list []string
	for _, p := range d.Peers {
		list = append(list, fmt.Sprint(p.Values["name"]))
	}
	return strings.Join(list, " ")
}

// expecting returns a check of which peers there are at some time, by the view that v is then.
func expecting(t *testing.T, v **View) func(when, want string, now time.Time) {
	return func(when, want string, now time.Time) {
		t.Helper()
		if got := peerNames((*v).Decide(now)); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
}

func TestView_aPeerGoesForGoodReasonsOnly(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 4)
	v := n.view(noon)
	const all = "site-1 site-2 site-3"
	expect := expecting(t, &v)
	expect("at first", all, noon)
	if err := v.List(map[string][]byte{}, noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	expect("an empty store", all, noon.Add(time.Hour))
	expect("an empty store for a week", all, noon.Add(time.Hour+Silence))
	_ = v.List(n.values, noon.Add(time.Hour+Silence))
	expect("a store that is full again", all, noon.Add(2*time.Hour+Silence))
	expect("records that have expired", all, noon.Add(200*time.Hour))
	n.revoke(1, 2)
	if err := v.Put("crl", n.values["crl"], noon); err != nil {
		t.Fatal(err)
	}
	expect("revoked", "site-1 site-3", noon)
	n.record(3, 2, func(r *record.Record) { r.Gone = true })
	_ = v.Put("site/"+siteOf(3).ID()+"/rec", n.values["site/"+siteOf(3).ID()+"/rec"], noon)
	expect("left", "site-1", noon)
	v.Gone("site/"+siteOf(1).ID()+"/rec", noon)
	v.Gone("grant/"+siteOf(1).ID(), noon)
	expect("deleted from the store", "site-1", noon.Add(Silence))
	expect("deleted for more than a week", "", noon.Add(Silence+time.Minute))
	n.grant(2, 2)
	n.record(2, 2, func(r *record.Record) { r.Grant = 2 })
	_ = v.List(n.values, noon)
	expect("granted anew", "site-1 site-2", noon)
	expect("expired", "", noon.Add(1001*time.Hour))
}

// A store that has lost everything, and then cannot be read for longer than Silence, has nobody go:
// neither meanwhile nor when it is back, as long as sites need to write their records again.
func TestView_silenceOfAStoreThatCannotBeRead(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 4)
	v := n.view(noon)
	const all = "site-1 site-2 site-3"
	expect := expecting(t, &v)
	_ = v.List(map[string][]byte{}, noon)
	v.Unreadable()
	back := noon.Add(Silence + 24*time.Hour)
	expect("while the store cannot be read", all, back)
	again := New(v.o)
	if err := again.Restore(v.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for _, of := range []*View{v, again} {
		v = of
		_ = v.List(map[string][]byte{}, back)
		expect("when it is back, and empty", all, back.Add(time.Minute))
	}
	v.Gone("site/"+siteOf(3).ID()+"/rec", back)
	for i := 1; i < 3; i++ {
		key := "site/" + siteOf(i).ID() + "/rec"
		_ = v.Put(key, n.values[key], back.Add(2*time.Minute))
	}
	expect("once two have written their records again", "site-1 site-2", back.Add(rewrite+time.Minute))
}

func TestView_olderDocumentsAreRefused(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 2)
	old := maps.Clone(n.values)
	n.revoke(5, 7)
	older := n.values["crl"]
	n.revoke(6)
	n.record(1, 9, func(r *record.Record) { r.Prefixes = nil })
	n.grant(1, 2, func(g *record.Grant) { g.Priority = 1 })
	n.record(1, 10, func(r *record.Record) { r.Grant, r.Endpoints = 2, []string{"198.51.100.1:1"} })
	v := n.view(noon)
	before := v.Decide(noon)
	old["crl"] = older
	if err := v.List(old, noon); err == nil {
		t.Error("nothing is refused of an older state")
	}
	if got := v.Decide(noon); !reflect.DeepEqual(got.Peers, before.Peers) || v.Refused()[Replayed] < 2 {
		t.Errorf("an older state changes something: %+v, refused %v", got.Peers, v.Refused())
	}
	// A grant that shrinks takes from the record at once.
	n.grant(1, 3, func(g *record.Grant) { g.Prefixes = []netip.Prefix{prefix(99)} })
	_ = v.Put("grant/"+siteOf(1).ID(), n.values["grant/"+siteOf(1).ID()], noon)
	if got := v.Decide(noon).Peers[0].Values["allowed_ips"]; len(got.([]any)) != 0 {
		t.Errorf("the peer keeps %v, which is no longer granted", got)
	}
}

func TestView_massRemovalIsHeld(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 101)
	for i := 1; i <= 60; i++ { // expire in an hour
		n.grant(i, 1, func(g *record.Grant) { g.NotAfter = noon.Add(time.Hour) })
	}
	v := n.view(noon)
	if got := len(v.Decide(noon).Peers); got != 100 {
		t.Fatalf("%d peers", got)
	}
	late := noon.Add(time.Hour + record.Slack + time.Second)
	d := v.Decide(late)
	if len(d.Peers) != 80 || d.Held != 40 || d.Next.IsZero() {
		t.Errorf("%d peers, %d held, next %v; want 80 and 40", len(d.Peers), d.Held, d.Next)
	}
	if d := v.Decide(late.Add(59 * time.Minute)); len(d.Peers) != 80 || d.Held != 40 {
		t.Errorf("after 59 minutes: %d peers, %d held", len(d.Peers), d.Held)
	}
	if d := v.Decide(late.Add(GuardHold)); len(d.Peers) != 40 || d.Held != 0 {
		t.Errorf("after an hour: %d peers, %d held", len(d.Peers), d.Held)
	}
	var list []int
	for i := 61; i <= 100; i++ {
		list = append(list, i)
	}
	n.revoke(1, list...)
	_ = v.Put("crl", n.values["crl"], late)
	if d := v.Decide(late.Add(GuardHold)); len(d.Peers) != 0 || d.Held != 0 {
		t.Errorf("revoked: %d peers, %d held", len(d.Peers), d.Held)
	}
	// A clock that is an hour ahead at a restart is a mass removal as well.
	n = newNetwork(t, 101)
	for i := 1; i <= 100; i++ {
		n.grant(i, 1, func(g *record.Grant) { g.NotAfter = noon.Add(30 * time.Minute) })
	}
	v = n.view(noon)
	v.Decide(noon)
	again := New(Options{Trust: trust, Self: siteOf(0)})
	if err := again.Restore(v.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if d := again.Decide(noon.Add(time.Hour)); len(d.Peers) != 80 {
		t.Errorf("%d peers after a restart with a clock that is ahead", len(d.Peers))
	}
	if d := again.Decide(noon); len(d.Peers) != 100 || d.Held != 0 {
		t.Errorf("%d peers once it is right", len(d.Peers))
	}
}

func TestView_onePrefixHasTheSameOwnerEverywhere(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	both := func(g *record.Grant) { g.Prefixes = []netip.Prefix{prefix(50)} }
	claim := func(r *record.Record) { r.Prefixes = []netip.Prefix{prefix(50)} }
	n.grant(1, 1, both)
	n.grant(2, 1, both, func(g *record.Grant) { g.NotBefore = noon.Add(-2 * time.Hour) })
	n.record(1, 1, claim)
	n.record(2, 1, claim)
	for _, self := range []record.Site{siteOf(0), {9}} {
		v := New(Options{Trust: trust, Self: self})
		if err := v.List(n.values, noon); err != nil {
			t.Fatal(err)
		}
		d := v.Decide(noon)
		if got := fmt.Sprint(d.Conflicts); got != "[10.0.50.0/24 belongs to site-2; site-1 claims it, too]" {
			t.Errorf("conflicts %s", got)
		}
	}
}

// A store in an enemy's hands: whatever it shows, in whatever order and mixture, there is never a
// peer or a prefix that was not granted, nothing is undone, and fewer go than the guard allows. In
// the end, the honest state leads to the honest decision.
func TestView_hostileStore(t *testing.T) {
	t.Parallel()
	const sites = 40
	honest := newNetwork(t, sites)
	for i := range 10 {
		honest.record(i, uint64(2+i), func(r *record.Record) { r.Endpoints = []string{fmt.Sprintf("192.0.2.%d:5", i)} })
	}
	honest.revoke(3, 5)
	stale := newNetwork(t, sites)
	foreign := newNetwork(t, sites)
	for key, value := range foreign.values { // signed by nobody who counts
		if more, err := record.AddSignature(bytes.Replace(value, []byte(`"signatures"`), []byte(`"x"`), 1), private(66)); err == nil {
			foreign.values[key] = more
		}
	}
	want := honest.view(noon).Decide(noon)
	keys := slices.Sorted(maps.Keys(honest.values))
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		v := New(Options{Trust: trust, Self: siteOf(0), Keepalive: 25})
		before := 0
		for range 200 {
			key := keys[r.IntN(len(keys))]
			source := []map[string][]byte{honest.values, stale.values, foreign.values}[r.IntN(3)]
			value := bytes.Clone(source[keys[r.IntN(len(keys))]]) // perhaps that of another key
			if r.IntN(2) == 0 {
				value = bytes.Clone(source[key])
			}
			switch r.IntN(8) {
			case 0:
				value = value[:r.IntN(len(value)+1)]
			case 1:
				if len(value) > 0 {
					value[r.IntN(len(value))] ^= byte(1 + r.IntN(255))
				}
			case 2:
				value = bytes.Repeat([]byte("{"), 1+r.IntN(9000))
			case 3:
				v.Gone(key, noon)
			case 4:
				_ = v.List(map[string][]byte{key: value, "x/y": nil}, noon)
			}
			_ = v.Put(key, value, noon)
			d := v.Decide(noon)
			if len(d.Peers) < before-1 { // one of them is revoked
				t.Fatalf("seed %d: %d peers, %d before", seed, len(d.Peers), before)
			}
			before = len(d.Peers)
			for _, p := range d.Peers {
				if i := int(p.Site[2]); p.Site != siteOf(i) || i >= sites || i == 0 || fmt.Sprint(p.Values["allowed_ips"]) != "["+prefix(i).String()+"]" {
					t.Fatalf("seed %d: %v", seed, p)
				}
			}
		}
		_ = v.List(honest.values, noon)
		if got := v.Decide(noon); !reflect.DeepEqual(got.Peers, want.Peers) {
			t.Fatalf("seed %d: in the end %s, want %s", seed, peerNames(got), peerNames(want))
		}
		text, err := json.Marshal(slices.Collect(v.Snapshot()))
		var s []Entry
		if err != nil || json.Unmarshal(text, &s) != nil {
			t.Fatal(err)
		}
		again := New(Options{Trust: trust, Self: siteOf(0), Keepalive: 25})
		if err := again.Restore(slices.Values(s)); err != nil {
			t.Fatal(err)
		}
		if got := again.Decide(noon); !reflect.DeepEqual(got.Peers, want.Peers) {
			t.Fatalf("seed %d: after a restart %s, want %s", seed, peerNames(got), peerNames(want))
		}
	}
}

// Anycast sites of different priorities share a prefix: the higher carries, the others stand by.
func TestDecide_prioritiesOfAnycastSites(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 6)
	for i, priority := range []int{0, 10, 20, 20, 70_000, 0} {
		n.grant(i, 1, func(g *record.Grant) { g.Anycast, g.Priority, g.Prefixes = true, priority, []netip.Prefix{prefix(9)} })
		n.record(i, 1, func(r *record.Record) { r.Prefixes = []netip.Prefix{prefix(9)} })
	}
	d := n.view(noon).Decide(noon)
	got := ""
	for _, p := range d.Peers {
		if len(p.Values["allowed_ips"].([]any)) > 0 {
			got += fmt.Sprint(p.Values["name"], ":", p.Values["priority"], " ")
		}
	}
	// Site 4 has a priority that tund cannot have, and wins alone.
	if got != "site-4:<nil> " {
		t.Errorf("with a priority out of range: %s", got)
	}
	n.revoke(1, 4)
	got = ""
	for _, p := range n.view(noon).Decide(noon).Peers {
		if len(p.Values["allowed_ips"].([]any)) > 0 {
			got += fmt.Sprint(p.Values["name"], ":", p.Values["priority"], " ")
		}
	}
	if got != "site-1:10 site-2:20 site-5:<nil> " || len(d.Conflicts) != 0 {
		t.Errorf("who has the prefix: %s; conflicts %v", got, d.Conflicts)
	}
}

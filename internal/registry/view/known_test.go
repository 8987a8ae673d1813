package view

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"tund/internal/registry/record"
)

// A decision about thousands of hosts is made once, and again only when something about them may
// have changed: a document, who is present, or the time.
func TestDecide_hostsAreDecidedOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 4)
	n.withFrames(4)
	short := func(s *record.Stations) { s.NotAfter = noon.Add(20 * time.Minute) }
	n.stations(1, 1, one(1, 0, "10.0.0.1"), short)
	n.stations(2, 1, one(2, 0, "10.0.0.2"))
	for i := range 3 {
		n.values["site/"+siteOf(i).ID()+"/up"] = []byte("{}")
	}
	v := n.lanView(Options{Leases: true})
	both := "0/00:01@site-1 0/00:02@site-2 10.0.0.1=00:01 10.0.0.2=00:02"
	version := uint64(0)
	expect := func(what string, now time.Time, want string, again bool) {
		t.Helper()
		if got := hosts(v, now); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		if is := v.Decide(now).HostsVersion; is == version == again || is == 0 {
			t.Errorf("%s: version %d after %d", what, is, version)
		} else {
			version = is
		}
	}
	put := func(key string) {
		t.Helper()
		if err := v.Put(key, n.values[key], noon); err != nil {
			t.Fatal(err)
		}
	}
	expect("at first", noon, both, true)
	expect("nothing has changed", noon.Add(time.Minute), both, false)
	n.record(3, 2, func(r *record.Record) {
		r.Capabilities, r.Endpoints = []string{record.CapEthernet}, []string{"192.0.2.1:9"}
	})
	put("site/" + siteOf(3).ID() + "/rec")
	expect("a site with another endpoint", noon.Add(time.Minute), both, false)
	put(n.stations(2, 2, one(3, 0)))
	expect("a document", noon.Add(time.Minute), "0/00:01@site-1 0/00:03@site-2 10.0.0.1=00:01", true)
	v.Gone("site/"+siteOf(1).ID()+"/up", noon)
	expect("a site that is away", noon.Add(time.Minute), "0/00:01@site-1 0/00:03@site-2", true)
	put("site/" + siteOf(1).ID() + "/up")
	expect("and is back", noon.Add(time.Minute), "0/00:01@site-1 0/00:03@site-2 10.0.0.1=00:01", true)
	expect("before its document expires", noon.Add(30*time.Minute), "0/00:01@site-1 0/00:03@site-2 10.0.0.1=00:01", false)
	expect("afterwards", noon.Add(30*time.Minute+2), "0/00:03@site-2", true)
}

// Who is frozen is decided again when that ends.
func TestDecide_hostsThatAreFrozenThaw(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	n.withFrames(3)
	v := n.lanView(Options{})
	now := noon
	for seq := range uint32(FreezeMoves) {
		key := n.stations(1+int(seq%2), uint64(1+seq), one(1, seq))
		if err := v.Put(key, n.values[key], noon); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
		v.Decide(now)
	}
	d := v.Decide(now.Add(FreezeTime - 1))
	if len(d.Frozen) != 1 {
		t.Fatalf("frozen: %v", d.Frozen)
	}
	if later := v.Decide(now.Add(FreezeTime)); len(later.Frozen) != 0 || later.HostsVersion == d.HostsVersion {
		t.Errorf("five minutes later: %v, version %d after %d", later.Frozen, later.HostsVersion, d.HostsVersion)
	}
}

// What is kept is a snapshot and the changes since, in one file. Whoever reads it knows the same.
func TestView_changesSinceASnapshot(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 30)
	n.withFrames(30)
	n.revoke(1, 3)
	n.stations(1, 1, one(1, 0))
	v := n.lanView(Options{})
	v.Decide(noon)
	kept := slices.Collect(v.Snapshot())
	since := func(what string, want int) {
		t.Helper()
		more := slices.Collect(v.Changes())
		if len(more) != want {
			t.Errorf("%s: %d entries, want %d", what, len(more), want)
		}
		kept = append(kept, more...)
		text, err := json.Marshal(kept)
		var read []Entry
		if err != nil || json.Unmarshal(text, &read) != nil {
			t.Fatal(err)
		}
		again := New(v.o)
		if err := again.Restore(slices.Values(read)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		describe := func(v *View) string { return fmt.Sprint(peerNames(v.Decide(noon)), hosts(v, noon)) }
		if got, want := describe(again), describe(v); got != want {
			t.Errorf("%s: a restart leads to %s, want %s", what, got, want)
		}
		if !reflect.DeepEqual(again.inForce, v.inForce) || !reflect.DeepEqual(again.revoked, v.revoked) {
			t.Errorf("%s: a restart leads to other peers in force, or revocations", what)
		}
	}
	put := func(key string) {
		t.Helper()
		if err := v.Put(key, n.values[key], noon); err != nil {
			t.Fatal(err)
		}
	}
	since("nothing has changed", 0)
	n.record(5, 2, func(r *record.Record) { r.Capabilities = []string{record.CapEthernet} })
	put("site/" + siteOf(5).ID() + "/rec")
	since("a record", 1)
	put(n.stations(1, 2, one(2, 0)))
	since("a document about hosts", 1)
	v.Gone("site/"+siteOf(6).ID()+"/rec", noon)
	since("a record that the store no longer has", 1)
	n.revoke(2, 3, 7)
	put("crl")
	v.Decide(noon)
	since("a revocation, and the site that goes", 2)
	since("nothing more", 0)
}

// A site that reads late may see what a site says before what another said before: the numbers tell
// how often a host has moved, so that all sites freeze it at one moment.
func TestDecide_movesThatWereNotSeen(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	n.withFrames(3)
	v := n.lanView(Options{})
	// Numbers 2 and 3 were said, and have been replaced since.
	for serial, seq := range []uint32{0, 1, 4} {
		key := n.stations(1+serial%2, uint64(1+serial), one(1, seq))
		if err := v.Put(key, n.values[key], noon); err != nil {
			t.Fatal(err)
		}
		if d := v.Decide(noon.Add(time.Duration(serial) * time.Second)); (len(d.Frozen) == 1) != (seq == 4) {
			t.Errorf("with number %d frozen: %v", seq, d.Frozen)
		}
	}
}

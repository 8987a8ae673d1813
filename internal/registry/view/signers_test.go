package view

import (
	"crypto/ed25519"
	"reflect"
	"slices"
	"testing"

	"tund/internal/registry/record"
)

// Signers are replaced without a moment in which a peer is missing: a second one signs what the
// first has signed, and what is known is kept with both signatures.
func TestView_signersAreReplaced(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 10)
	n.revoke(1, 3)
	v := n.view(noon)
	want := v.Decide(noon)
	both := map[string][]byte{}
	for key, value := range n.values {
		if both[key] = value; rank(key) < 2 {
			both[key] = n.must(record.AddSignature(value, private(7)))
		}
	}
	if err := v.List(both, noon); err != nil {
		t.Errorf("documents with a second signature: %v", err)
	}
	next := Options{Trust: trust, Self: siteOf(0), Keepalive: 25}
	next.Trust.Signers = []record.Key{record.Key(private(7).Public().(ed25519.PublicKey))}
	again := New(next)
	if err := again.Restore(v.Snapshot()); err != nil {
		t.Errorf("what was known does not count for the second signer: %v", err)
	}
	if got := again.Decide(noon); !reflect.DeepEqual(got.Peers, want.Peers) || len(got.Peers) != 8 {
		t.Errorf("peers %s, want %s", peerNames(got), peerNames(want))
	}
	// Another document with the same serial is still refused.
	n.grant(4, 1, func(g *record.Grant) { g.Prefixes = nil })
	if v.Put("grant/"+siteOf(4).ID(), n.values["grant/"+siteOf(4).ID()], noon) == nil {
		t.Error("another grant with the same serial is taken")
	}
}

// A list of revocations that lacks a site which an earlier one had takes nothing back, also after a
// restart: whoever signed it may have begun from a backup. A new grant does.
func TestView_revocationsAreNotTakenBack(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 4)
	n.revoke(1, 2)
	v := n.view(noon)
	n.revoke(2, 3)
	_ = v.Put("crl", n.values["crl"], noon)
	expect := func(when string, v *View, want string) {
		t.Helper()
		if got := peerNames(v.Decide(noon)); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	expect("after a list with another site", v, "site-1")
	again := New(v.o)
	if err := again.Restore(v.Snapshot()); err != nil {
		t.Fatal(err)
	}
	expect("after a restart", again, "site-1")
	n.grant(2, 2)
	n.record(2, 2, func(r *record.Record) { r.Grant = 2 })
	_ = again.List(n.values, noon)
	expect("with a new grant", again, "site-1 site-2")
	if d := again.Changes(); len(slices.Collect(d)) == 0 {
		t.Error("the new grant is not among the changes")
	}
}

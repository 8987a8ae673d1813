package view

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"tund/internal/registry/record"
)

// FuzzStore has a store show documents as the input says: true ones, old ones and such that nobody
// has signed, cut, changed, at other keys, in any order, with deletions between them. There is
// never a peer or a prefix that was not granted, no peer goes that was not revoked, and in the end
// the true documents lead to the same peers as if nothing else had been shown.
func FuzzStore(f *testing.F) {
	const sites = 12
	t := &testing.T{}
	honest, stale, foreign := newNetwork(t, sites), newNetwork(t, sites), newNetwork(t, sites)
	for i := range 6 {
		honest.record(i, uint64(2+i), func(r *record.Record) { r.Endpoints = []string{fmt.Sprintf("192.0.2.%d:5", i)} })
	}
	honest.revoke(3, 5)
	stale.revoke(2)
	for key, value := range foreign.values {
		foreign.values[key] = bytes.Replace(value, []byte(`"sig":"`), []byte(`"sig":"A`), 1)
	}
	stores := []map[string][]byte{honest.values, stale.values, foreign.values}
	keys := slices.Sorted(maps.Keys(honest.values))
	want := honest.view(noon).Decide(noon).Peers
	f.Add([]byte{0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 2, 2, 1, 2, 3, 9, 1, 4, 4, 1, 7})
	f.Add(bytes.Repeat([]byte{7, 3, 1, 200, 5}, 20))
	f.Fuzz(func(t *testing.T, input []byte) {
		v := New(Options{Trust: trust, Self: siteOf(0), Keepalive: 25})
		before := 0
		for input = input[:min(len(input), 500)]; len(input) >= 5; {
			key, of := keys[int(input[0])%len(keys)], keys[int(input[1])%len(keys)]
			value := bytes.Clone(stores[int(input[2])%len(stores)][of])
			at := 0
			if len(value) > 0 {
				at = int(input[3]) * len(value) / 256
			}
			switch input[4] % 8 {
			case 0:
				value = value[:at]
			case 1:
				if len(value) > 0 {
					value[at] ^= 1 + input[3]
				}
			case 2:
				v.Gone(key, noon)
			case 3:
				_ = v.List(map[string][]byte{key: value}, noon)
			case 4:
				key = string(input[:5])
			}
			_ = v.Put(key, value, noon)
			input = input[5:]
			d := v.Decide(noon)
			if len(d.Peers) < before-1 { // one of them is revoked
				t.Fatalf("%d peers, after %d", len(d.Peers), before)
			}
			before = len(d.Peers)
			v.redo = true
			if again := v.Decide(noon); !reflect.DeepEqual(again.Peers, d.Peers) || !reflect.DeepEqual(again.Conflicts, d.Conflicts) {
				t.Fatalf("decided again: %v, and from what has changed: %v", again, d)
			}
			for _, p := range d.Peers {
				i := int(p.Site[2])
				if p.Site != siteOf(i) || i >= sites || i == 0 || fmt.Sprint(p.Values["allowed_ips"]) != "["+prefix(i).String()+"]" {
					t.Fatalf("a peer that nobody has granted: %v", p)
				}
			}
		}
		_ = v.List(honest.values, noon)
		if got := v.Decide(noon).Peers; !reflect.DeepEqual(got, want) {
			t.Fatalf("in the end %v, want %v", got, want)
		}
	})
}

// A clock that is an hour off, of the site or of a signer, ends nothing and begins nothing too
// early, and says so.
func TestView_clocksThatAreAnHourOff(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 30)
	want := n.view(noon).Decide(noon)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		v := n.view(noon)
		v.Decide(noon)
		if got := v.Decide(noon.Add(off)); !reflect.DeepEqual(got.Peers, want.Peers) || got.Held != 0 {
			t.Errorf("a clock that jumps by %v: %d peers, %d held", off, len(got.Peers), got.Held)
		}
		again := New(Options{Trust: trust, Self: siteOf(0), Keepalive: 25})
		if err := again.Restore(v.Snapshot()); err != nil {
			t.Fatal(err)
		}
		if got := again.Decide(noon.Add(off)); !reflect.DeepEqual(got.Peers, want.Peers) {
			t.Errorf("a restart with a clock off by %v: %d peers", off, len(got.Peers))
		}
	}
	// What a signer grants whose clock is ahead counts once it has begun.
	v := n.view(noon)
	n.grant(40, 1, func(g *record.Grant) { g.NotBefore = noon.Add(time.Hour) })
	n.record(40, 1)
	if err := v.List(n.values, noon); err == nil || !bytes.Contains([]byte(err.Error()), []byte("begins")) {
		t.Errorf("a grant that begins in an hour: %v", err)
	}
	if got := v.Decide(noon); len(got.Peers) != len(want.Peers) {
		t.Errorf("%d peers", len(got.Peers))
	}
	if err := v.List(n.values, noon.Add(time.Hour)); err != nil || len(v.Decide(noon.Add(time.Hour)).Peers) != len(want.Peers)+1 {
		t.Errorf("after an hour: %v", err)
	}
}

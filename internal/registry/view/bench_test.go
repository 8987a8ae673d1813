package view

import (
	"strconv"
	"testing"

	"tund/internal/registry/record"
)

// What an agent of 1,000 sites does every few seconds.
func BenchmarkDecide(b *testing.B) {
	n := newNetwork(&testing.T{}, 1000)
	v := n.view(noon)
	b.ReportAllocs()
	for b.Loop() {
		v.Decide(noon)
	}
}

// What a site with a new endpoint costs: its record is verified, and its peer described again.
func BenchmarkDecide_change(b *testing.B) {
	n := newNetwork(&testing.T{}, 1000)
	v := n.view(noon)
	v.Decide(noon)
	key := "site/" + siteOf(7).ID() + "/rec"
	var records [1000][]byte
	for i := range records {
		n.record(7, uint64(2+i), func(r *record.Record) { r.Endpoints = []string{"192.0.2.1:" + strconv.Itoa(1+i)} })
		records[i] = n.values[key]
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%len(records) == 0 {
			v.sites[siteOf(7)].rec.Serial = 1
		}
		if err := v.Put(key, records[i%len(records)], noon); err != nil {
			b.Fatal(err)
		}
		v.Decide(noon)
	}
}

// The same if all has to be decided again, as after a grant.
func BenchmarkDecide_anew(b *testing.B) {
	n := newNetwork(&testing.T{}, 1000)
	v := n.view(noon)
	b.ReportAllocs()
	for b.Loop() {
		v.redo = true
		v.Decide(noon)
	}
}

// What the first start of an agent of 1,000 sites costs: everything is verified.
func BenchmarkList(b *testing.B) {
	n := newNetwork(&testing.T{}, 1000)
	b.ReportAllocs()
	for b.Loop() {
		v := New(Options{Trust: trust, Self: siteOf(0), Keepalive: 25})
		if err := v.List(n.values, noon); err != nil {
			b.Fatal(err)
		}
		v.Decide(noon)
	}
}

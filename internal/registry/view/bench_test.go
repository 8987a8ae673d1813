package view

import "testing"

// What an agent does every few seconds, and after each change: decide about 1,000 sites.
func BenchmarkDecide(b *testing.B) {
	n := newNetwork(&testing.T{}, 1000)
	v := n.view(noon)
	b.ReportAllocs()
	for b.Loop() {
		v.Decide(noon)
	}
}

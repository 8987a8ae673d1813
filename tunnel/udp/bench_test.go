package udp

import (
	"fmt"
	"testing"
)

// BenchmarkSocket_loopback sends and receives on one goroutine: the system calls and the kernel's
// path.
func BenchmarkSocket_loopback(b *testing.B) {
	for _, c := range []struct {
		segment, count int
		gso            bool
	}{{1452, 45, true}, {1452, 45, false}, {96, 100, true}, {96, 1, true}, {1452, 1, true}} {
		b.Run(fmt.Sprintf("%dx%dB/gso=%v", c.count, c.segment, c.gso), func(b *testing.B) {
			from, to := mustOpen(b, Options{NoGSO: !c.gso}), mustOpen(b, Options{NoGRO: !c.gso})
			x := from.NewSender()
			ts := trains(64)
			runs := []Run{{Buf: make([]byte, c.segment*c.count), Segment: c.segment, To: loopback(to, "127.0.0.1")}}
			b.SetBytes(int64(len(runs[0].Buf)))
			b.ReportAllocs()
			for b.Loop() {
				x.Send(runs)
				for got := 0; got < len(runs[0].Buf); {
					n, err := to.Receive(ts, true)
					if err != nil {
						b.Fatal(err)
					}
					for i := range n {
						got += ts[i].N
					}
				}
			}
			b.ReportMetric(float64(c.count)*float64(b.N)/b.Elapsed().Seconds(), "datagrams/s")
		})
	}
}

// BenchmarkSender_many sends single datagrams to many receivers: the cost per message.
func BenchmarkSender_many(b *testing.B) {
	from, to := mustOpen(b, Options{}), mustOpen(b, Options{})
	x := from.NewSender()
	runs := make([]Run, 64)
	for i := range runs {
		runs[i] = Run{Buf: make([]byte, 100), To: loopback(to, "127.0.0.1")}
	}
	ts := trains(64)
	b.ReportAllocs()
	for b.Loop() {
		x.Send(runs)
		for n := 1; n > 0; {
			n, _ = to.Receive(ts, false)
		}
	}
}

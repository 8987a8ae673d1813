package lane

import (
	"context"
	"net/netip"
	"testing"

	"tund/internal/boottime"
	"tund/internal/capture/stream"
	"tund/tunnel/capture"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
)

// captured has everything captured until the test ends, by a reader that keeps nothing, and snap
// bytes of each packet. Only with a clock that goes on is there a reader.
func (b *bench) captured(t testing.TB, snap int, clock boottime.Clock) *capture.Session {
	t.Helper()
	s, err := b.env.Taps.Start(capture.Options{Clock: clock, Devices: []int{0, capture.Underlay}, Start: stream.Start{
		SnapLength: snap, Interfaces: []stream.Interface{{Kind: stream.KindTUN}, {Kind: stream.KindOuter}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		if clock != (still{}) {
			_ = s.Stream(context.Background(), func([]byte) error { return nil }, func() error { return nil })
		}
	}()
	t.Cleanup(func() {
		s.Stop("")
		<-read
	})
	return s
}

// Nor while somebody captures them.
func TestLoops_allocateNothingPerCapturedPacket(t *testing.T) {
	for _, f := range []tundev.Features{{}, {Checksum: true, TSO: true, USO: true}} {
		b := newBench(t, f)
		s := b.captured(t, capture.MinSnap, still{})
		allocateNothing(t, b, f)
		if taken, lost := s.Counts(); taken+lost < 101*(1+46+40) {
			t.Errorf("%d packets captured, %d lost", taken, lost)
		}
	}
}

// What the loops cost while somebody captures the first 128 bytes of everything: compare with
// BenchmarkLoops.
func BenchmarkLoops_captured(b *testing.B) {
	bench := newBench(b, tundev.Features{Checksum: true, TSO: true, USO: true})
	here := netip.MustParseAddr("10.9.0.1")
	super := tundevtest.TCPSuper(here, bench.inner, 46, 1380)
	var segments [][]byte
	for i := range 40 {
		segments = append(segments, tundevtest.TCPSegment(bench.inner, here, i*1380, 1380))
	}
	bench.captured(b, 128, boottime.System())
	b.Run("send-superpacket", func(b *testing.B) {
		for b.Loop() {
			bench.send(super)
		}
	})
	b.Run("receive-train", func(b *testing.B) {
		for b.Loop() {
			bench.receive(segments)
		}
	})
}

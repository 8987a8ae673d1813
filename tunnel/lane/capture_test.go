package lane

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"testing"

	"tund/internal/boottime"
	"tund/internal/capture/stream"
	"tund/internal/drop"
	"tund/tunnel/capture"
	"tund/tunnel/offload"
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

// What peers sent is captured as the device gets it, a fast flow as superpackets, and with what
// becomes of it.
func TestReceiveLoop_capturesWhatTheDeviceGets(t *testing.T) {
	t.Parallel()
	f := tundev.Features{Checksum: true, TSO: true, USO: true}
	b := newBench(t, f)
	device := tundevtest.New(16, f)
	b.dev.Queues[0] = device
	b.in = NewReceiveLoop(b.env, b.lane, []*Device{b.dev})
	s, err := b.env.Taps.Start(capture.Options{Clock: still{}, Devices: []int{0}, Start: stream.Start{
		SnapLength: 128, Interfaces: []stream.Interface{{Kind: stream.KindTUN}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	here, elsewhere := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.10.0.1")
	const size = 1380
	var train [][]byte
	for i := range 6 {
		p := tundevtest.TCPSegment(b.inner, here, i*size, min(size, 5*size+100-i*size))
		p[6] = 0x40 // may not be fragmented, and so need not be numbered
		binary.BigEndian.PutUint16(p[10:], ^checksum(p[:20]))
		train = append(train, p)
	}
	b.receive(train)
	b.receive([][]byte{tundevtest.Packet(b.inner, here, 200)})
	b.receive([][]byte{tundevtest.Packet(elsewhere, here, 200)})
	device.Full()
	b.receive(train[:2])

	s.Stop("")
	var out bytes.Buffer
	if err := s.Stream(context.Background(), func(b []byte) error { out.Write(b); return nil }, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := []stream.Header{
		{Length: uint32(len(train[0]) + 4*size + 100), Segments: 6},
		{Length: 20 + 200, Segments: 1},
		{Length: 20 + 200, Reason: uint16(drop.ForeignSource)},
		{Length: uint32(len(train[0]) + size), Segments: 2, Reason: uint16(drop.DeviceWrite)},
	}
	for r := stream.NewReader(&out); ; {
		h, _, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Kind != stream.KindPacket {
			continue
		}
		got := stream.Header{Length: h.Length, Segments: h.Segments, Reason: h.Reason}
		if len(want) == 0 || got != want[0] || h.Peer == 0 || h.Flags != stream.In || h.Payload != 128 {
			t.Fatalf("captured %+v, want %+v", h, want)
		}
		want = want[1:]
	}
	if len(want) != 0 {
		t.Errorf("not captured: %+v", want)
	}
}

// checksum is the sum of 16-bit words of RFC 1071.
func checksum(b []byte) uint16 {
	n := offload.Sum(b, 0)
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
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

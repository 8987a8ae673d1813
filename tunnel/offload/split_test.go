package offload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"tund/internal/drop"
)

func size(n int) string { return fmt.Sprintf("%dB", n) }

// superpacket makes a device read out of a spec: the checksum field holds the pseudo-header sum.
func superpacket(t testing.TB, s spec, gso int) []byte {
	t.Helper()
	frame := s.build(t)
	at, proto, version, typ := frameTransport(&s), uint8(6), uint8(4), uint8(GSOTCPv4)
	headers := len(frame) - len(s.payload)
	if s.v6 {
		version, typ = 6, GSOTCPv6
	}
	h := VirtioHeader{Flags: NeedsChecksum, GSOType: typ, GSOSize: uint16(gso), HdrLen: uint16(headers), CsumStart: uint16(at), CsumOffset: 16}
	if s.udp {
		proto, h.GSOType, h.CsumOffset = 17, GSOUDP, 6
	}
	if gso == 0 {
		h.GSOType, h.HdrLen = GSONone, 0
	}
	ip := frame[at-20:]
	if s.v6 {
		ip = frame[at-40:]
	}
	sum := fold(pseudoSum(ip, version, proto) + uint64(len(frame)-at))
	binary.BigEndian.PutUint16(frame[at+int(h.CsumOffset):], sum)
	buf := make([]byte, VirtioHeaderLen, VirtioHeaderLen+len(frame)+MaxPadding)
	h.Encode(buf)
	return append(buf, frame...)
}

// frameTransport is where the TCP or UDP header of a built spec begins.
func frameTransport(s *spec) int {
	at := 20
	if s.v6 {
		at = 40
	}
	if s.options {
		at += 4
	}
	if s.link == Ethernet {
		at += 14 + 4*len(s.vlans)
	}
	return at
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// randomSuper is a superpacket of any kind.
func randomSuper(r *rand.Rand) (spec, int) {
	s := spec{link: Link(r.IntN(2)), v6: r.IntN(2) == 0, udp: r.IntN(3) == 0, src: 1, dst: 2, sport: 4000, dport: 443,
		seq: r.Uint32(), ack: r.Uint32(), flags: uint8(0x10 | r.Uint32()&0xd9), window: uint16(r.Uint32()), ttl: 64, tos: uint8(r.Uint32()),
		id: uint16(r.Uint32()), df: r.IntN(2) == 0, label: r.Uint32() & 0xfffff}
	if s.link == Ethernet {
		for range r.IntN(3) {
			s.vlans = append(s.vlans, uint16(1+r.IntN(4094)))
		}
	}
	if !s.udp && r.IntN(2) == 0 {
		s.stamp = r.Uint64() | 1
	}
	gso := 1 + r.IntN(1500)
	s.payload = randomBytes(r, 1+gso+r.IntN(min(62000, 60*gso)))
	return s, gso
}

// TestSplitter_segmentsAreThoseOfTheOracle compares every byte with a slow implementation by
// gopacket.
func TestSplitter_segmentsAreThoseOfTheOracle(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	var sp Splitter
	for range 100 {
		s, gso := randomSuper(r)
		buf := superpacket(t, s, gso)
		want := slowSplit(t, s.link, buf)
		prefix := 0
		if s.link == Ethernet {
			prefix = 4
		}
		if reason := sp.Begin(buf, s.link, prefix, 0); reason != drop.None {
			t.Fatalf("Begin(%+v) = %v", s, reason)
		}
		if sp.Count() != len(want) {
			t.Fatalf("Count = %d, want %d", sp.Count(), len(want))
		}
		for i, w := range want {
			checkSegment(t, &sp, prefix, i, w)
		}
		if b, n := sp.Next(); b != nil || n != 0 {
			t.Fatal("a segment too many")
		}
	}
}

func checkSegment(t *testing.T, sp *Splitter, prefix, i int, want []byte) {
	t.Helper()
	padded, n := sp.Next()
	if n != len(want)+prefix || len(padded) != (n+15)/16*16 {
		t.Fatalf("segment %d: length %d padded to %d, want %d", i, n, len(padded), len(want)+prefix)
	}
	if !bytes.Equal(padded[prefix:n], want) {
		t.Fatalf("segment %d:\n got %x\nwant %x", i, padded[prefix:n], want)
	}
	if !bytes.Equal(padded[n:], make([]byte, len(padded)-n)) {
		t.Fatalf("segment %d: padding %x", i, padded[n:])
	}
	if prefix == 4 {
		if wantPrefix := []byte{0x10, 0, byte(len(want) >> 8), byte(len(want))}; !bytes.Equal(padded[:4], wantPrefix) {
			t.Fatalf("segment %d: prefix %x, want %x", i, padded[:4], wantPrefix)
		}
	}
	// The caller may do as it likes with what it was given, but for the padding.
	for j := range padded {
		if j < n {
			padded[j] = 0xaa
		}
	}
}

func TestSplitter_paddingStopsAtTheMTU(t *testing.T) {
	t.Parallel()
	for _, link := range []Link{IP, Ethernet} {
		prefix, linkHeader := 0, 0
		if link == Ethernet {
			prefix, linkHeader = 4, 18
		}
		s := spec{link: link, src: 1, dst: 2, ttl: 64, flags: 0x18, payload: make([]byte, 3*1379+5)}
		if link == Ethernet {
			s.vlans = []uint16{7}
		}
		var sp Splitter
		if reason := sp.Begin(superpacket(t, s, 1379), link, prefix, 1419); reason != drop.None {
			t.Fatal(reason)
		}
		for i := range sp.Count() {
			padded, n := sp.Next()
			if i < 3 && (len(padded) != n || n != 1419+prefix+linkHeader) {
				t.Errorf("link %d segment %d: %d bytes padded to %d", link, i, n, len(padded))
			}
			if i == 3 && len(padded) != (n+15)/16*16 {
				t.Errorf("link %d: last segment of %d padded to %d", link, n, len(padded))
			}
		}
	}
}

func TestSplitter_longerThanTheMTUIsNotPaddedAndNotCut(t *testing.T) {
	t.Parallel()
	s := spec{src: 1, dst: 2, ttl: 64, udp: true, payload: make([]byte, 1475)}
	var sp Splitter
	if reason := sp.Begin(append(make([]byte, VirtioHeaderLen), s.build(t)...), IP, 0, 1420); reason != drop.None {
		t.Fatal(reason)
	}
	if b, n := sp.Next(); n != 1503 || len(b) != 1503 {
		t.Errorf("got %d of %d", n, len(b))
	}
}

func TestSplitter_singleWithPartialChecksumIsCompleted(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	var sp Splitter
	for range 300 {
		s, _ := randomSuper(r)
		s.payload = s.payload[:r.IntN(len(s.payload))]
		buf := superpacket(t, s, 0)
		want := slowSplit(t, s.link, buf)[0]
		if reason := sp.Begin(buf, s.link, 0, 0); reason != drop.None {
			t.Fatal(reason)
		}
		checkSegment(t, &sp, 0, 0, want)
	}
}

func TestSplitter_superpacketOfOneSegment(t *testing.T) {
	t.Parallel()
	s := spec{src: 1, dst: 2, ttl: 64, flags: 0x98, payload: make([]byte, 700)}
	var sp Splitter
	if reason := sp.Begin(superpacket(t, s, 1000), IP, 0, 0); reason != drop.None {
		t.Fatal(reason)
	}
	if sp.Count() != 1 {
		t.Fatalf("Count = %d", sp.Count())
	}
	checkSegment(t, &sp, 0, 0, s.build(t))
}

func TestSplitter_forwardedHeaderLengthIsIgnored(t *testing.T) {
	t.Parallel()
	s := spec{src: 1, dst: 2, ttl: 64, flags: 0x18, payload: make([]byte, 3000)}
	var sp Splitter
	for _, hdrLen := range []uint16{0, 1, 200, 65535} {
		buf := superpacket(t, s, 1000)
		binary.NativeEndian.PutUint16(buf[2:], hdrLen)
		if reason := sp.Begin(buf, IP, 0, 0); reason != drop.None || sp.Count() != 3 {
			t.Errorf("hdr_len %d: %v, %d segments", hdrLen, reason, sp.Count())
		}
	}
}

// TestSplitter_routingHeader: with an extension header that changes the destination the
// pseudo-header cannot be taken from the IP header; the partial sum the kernel gave is right.
func TestSplitter_routingHeader(t *testing.T) {
	t.Parallel()
	s := spec{v6: true, src: 1, dst: 2, ttl: 64, flags: 0x10, payload: make([]byte, 2500)}
	r := rand.New(rand.NewPCG(7, 8))
	copy(s.payload, randomBytes(r, len(s.payload)))
	plain := superpacket(t, s, 1000)
	final := append([]byte(nil), plain[VirtioHeaderLen+24:VirtioHeaderLen+40]...)
	ext := append([]byte{6, 2, 0, 1, 0, 0, 0, 0}, final...) // one segment left
	buf := append([]byte(nil), plain[:VirtioHeaderLen+40]...)
	buf = append(append(buf, ext...), plain[VirtioHeaderLen+40:]...)
	ip := buf[VirtioHeaderLen:]
	ip[6], ip[39] = 43, 99 // routing header; the destination is only the next hop
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	binary.NativeEndian.PutUint16(buf[6:], 64)
	var sp Splitter
	if reason := sp.Begin(append(make([]byte, 0, len(buf)+MaxPadding), buf...), IP, 0, 0); reason != drop.None || sp.Count() != 3 {
		t.Fatalf("Begin = %v, %d segments", reason, sp.Count())
	}
	for range 3 {
		b, n := sp.Next()
		pseudo := append(append([]byte(nil), b[8:24]...), final...)
		pseudo = append(pseudo, 0, 6, byte((n-64)>>8), byte(n-64))
		if got := slowSum(b[64:n], uint32(slowSum(pseudo, 0))); got != 0xffff {
			t.Errorf("sum = %#x", got)
		}
		if got := int(binary.BigEndian.Uint16(b[4:])); got != n-40 {
			t.Errorf("payload length %d, want %d", got, n-40)
		}
	}
}

func TestSplitter_PlainMakesPacketsAnyDeviceTakes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 10))
	var sp Splitter
	for range 100 {
		s, gso := randomSuper(r)
		if r.IntN(3) == 0 {
			gso = 0
		}
		frame := superpacket(t, s, gso)
		want := slowSplit(t, s.link, frame)
		whole := append([]byte(nil), frame[:cap(frame)][len(frame):]...)
		i := 0
		reason := sp.Plain(frame, s.link, func(b []byte) {
			if !bytes.Equal(b[:VirtioHeaderLen], make([]byte, VirtioHeaderLen)) {
				t.Fatalf("virtio header %x", b[:VirtioHeaderLen])
			}
			if !bytes.Equal(b[VirtioHeaderLen:], want[i]) {
				t.Fatalf("packet %d of %d:\n got %x\nwant %x", i, len(want), b[VirtioHeaderLen:], want[i])
			}
			i++
		})
		if reason != drop.None || i != len(want) {
			t.Fatalf("Plain = %v, %d packets, want %d", reason, i, len(want))
		}
		if !bytes.Equal(whole, frame[:cap(frame)][len(frame):]) {
			t.Fatal("wrote behind the frame")
		}
	}
}

func TestSplitter_doesNotAllocate(t *testing.T) {
	s := spec{src: 1, dst: 2, ttl: 64, flags: 0x18, payload: make([]byte, 47*1368)}
	buf := superpacket(t, s, 1368)
	work := append(make([]byte, 0, cap(buf)+64), buf...)
	var sp Splitter
	got := testing.AllocsPerRun(10, func() {
		copy(work, buf)
		if sp.Begin(work, IP, 0, 1420) != drop.None {
			t.Fatal("refused")
		}
		for range sp.Count() {
			sp.Next()
		}
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkSplitter(b *testing.B) {
	cases := []struct {
		name string
		spec spec
		gso  int
	}{
		{"superpacket47", spec{src: 1, dst: 2, ttl: 64, flags: 0x18, stamp: 1, payload: make([]byte, 47*1368)}, 1368},
		{"udp64B", spec{src: 1, dst: 2, ttl: 64, udp: true, payload: make([]byte, 64)}, 0},
		{"uso64x64B", spec{src: 1, dst: 2, ttl: 64, udp: true, payload: make([]byte, 64*64)}, 64},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			buf := superpacket(b, c.spec, c.gso)
			head := append([]byte(nil), buf[:min(len(buf), VirtioHeaderLen+128)]...)
			b.SetBytes(int64(len(c.spec.payload)))
			b.ReportAllocs()
			var sp Splitter
			for b.Loop() {
				copy(buf, head)
				if sp.Begin(buf, IP, 0, 1420) != drop.None {
					b.Fatal("refused")
				}
				for range sp.Count() {
					sp.Next()
				}
			}
		})
	}
}

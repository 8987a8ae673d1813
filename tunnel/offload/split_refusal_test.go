package offload

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"tund/internal/drop"
)

func TestSplitter_refusesWhatContradictsItself(t *testing.T) {
	t.Parallel()
	tcp4 := spec{src: 1, dst: 2, ttl: 64, flags: 0x18, payload: make([]byte, 3000)}
	tcp6 := tcp4
	tcp6.v6 = true
	udp := tcp4
	udp.udp = true
	tests := []struct {
		name string
		spec spec
		edit func(b []byte)
	}{
		{"gso_size 0", tcp4, func(b []byte) { b[4], b[5] = 0, 0 }},
		{"TCPv6 on IPv4", tcp4, func(b []byte) { b[1] = GSOTCPv6 }},
		{"TCPv4 on IPv6", tcp6, func(b []byte) { b[1] = GSOTCPv4 }},
		{"UDP type on TCP", tcp4, func(b []byte) { b[1] = GSOUDP }},
		{"TCP type on UDP", udp, func(b []byte) { b[1] = GSOTCPv4 }},
		{"UDP fragmentation", udp, func(b []byte) { b[1] = 3 }},
		{"ECN on UDP", udp, func(b []byte) { b[1] |= GSOECN }},
		{"ECN alone", tcp4, func(b []byte) { b[1] = GSOECN }},
		{"csum_start elsewhere", tcp4, func(b []byte) { binary.NativeEndian.PutUint16(b[6:], 24) }},
		{"csum_offset elsewhere", tcp4, func(b []byte) { binary.NativeEndian.PutUint16(b[8:], 6) }},
		{"fragment", tcp4, func(b []byte) { b[VirtioHeaderLen+6] = 0x20 }},
		{"header length 4", tcp4, func(b []byte) { b[VirtioHeaderLen] = 0x41 }},
		{"header length beyond TCP", tcp4, func(b []byte) { b[VirtioHeaderLen] = 0x4f }},
		{"data offset 0", tcp4, func(b []byte) { b[VirtioHeaderLen+32] = 0 }},
		{"total length of another packet", tcp4, func(b []byte) { b[VirtioHeaderLen+2]++ }},
		{"payload length of another packet", tcp6, func(b []byte) { b[VirtioHeaderLen+5]++ }},
		{"version 5", tcp4, func(b []byte) { b[VirtioHeaderLen] = 0x55 }},
		{"checksum outside", tcp4, func(b []byte) { b[1] = 0; binary.NativeEndian.PutUint16(b[6:], 3039) }},
	}
	var sp Splitter
	for _, test := range tests {
		buf := superpacket(t, test.spec, 1000)
		test.edit(buf)
		if got := sp.Begin(buf, IP, 0, 0); got != drop.BadDevicePacket {
			t.Errorf("%s: Begin = %v", test.name, got)
		}
		if b, n := sp.Next(); b != nil || n != 0 || sp.Count() != 0 {
			t.Errorf("%s: still has segments", test.name)
		}
	}
	for n := range VirtioHeaderLen + 20 {
		if got := sp.Begin(make([]byte, n), IP, 0, 0); got != drop.BadDevicePacket {
			t.Errorf("%d bytes: Begin = %v", n, got)
		}
	}
}

// FuzzSplitter: any header and any bytes give either a refusal or segments that stay inside the
// buffer, and whose payloads are the frame's.
func FuzzSplitter(f *testing.F) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 12 {
		s, gso := randomSuper(r)
		s.payload = s.payload[:min(len(s.payload), gso*3)]
		f.Add(superpacket(f, s, gso), uint8(s.link), uint16(1420))
		f.Add(superpacket(f, s, 0), uint8(s.link), uint16(1420))
	}
	f.Add(append(make([]byte, VirtioHeaderLen), 0x60), uint8(0), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, link uint8, mtu uint16) {
		const guard = 64
		room := make([]byte, guard+len(data)+MaxPadding+guard)
		for i := range room {
			room[i] = 0x5a
		}
		buf := room[guard : guard+len(data) : guard+len(data)+MaxPadding]
		copy(buf, data)
		var sp Splitter
		prefix := int(link&1) * 4
		reason := sp.Begin(buf, Link(link&1), prefix, int(mtu))
		if reason != drop.None && sp.Count() != 0 || reason == drop.None && sp.Count() == 0 {
			t.Fatalf("%v with %d segments", reason, sp.Count())
		}
		payload := 0
		for i := range sp.Count() {
			padded, n := sp.Next()
			if n > len(padded) || n < prefix || len(padded) > n+MaxPadding {
				t.Fatalf("segment %d: %d of %d", i, n, len(padded))
			}
			payload += n - prefix - sp.headers
			clear(padded[:n])
		}
		if sp.mss > 0 && payload != len(data)-VirtioHeaderLen-sp.headers {
			t.Fatalf("payloads of %d bytes from a frame of %d", payload, len(data))
		}
		if b, _ := sp.Next(); b != nil {
			t.Fatal("a segment too many")
		}
		for i := range guard {
			if room[i] != 0x5a || room[len(room)-1-i] != 0x5a {
				t.Fatal("wrote outside the buffer")
			}
		}
	})
}

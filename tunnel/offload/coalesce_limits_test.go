package offload

import (
	"bytes"
	"fmt"
	"testing"
)

func TestCoalescer_SetFeaturesWithinWrite(t *testing.T) {
	t.Parallel()
	var c *Coalescer
	var frames int
	var sp Splitter
	c = NewCoalescer(IP, 0, allFeatures, func(frame []byte, _ uint32) {
		if frame[1] != GSONone { // the device refuses: fall back, and do not try again
			c.SetFeatures(Features{})
			sp.Plain(frame, IP, func([]byte) { frames++ })
			return
		}
		if frames >= 5 && frame[0] != 0 {
			t.Error("still asks for checksums")
		}
		frames++
	})
	s := data(IP)
	for i := range 10 {
		if i == 4 {
			s.flags |= tcpPSH
		}
		feed(t, c, s.build(t))
		s = after(s)
		s.flags &^= tcpPSH
	}
	c.Flush()
	if frames != 10 {
		t.Errorf("%d frames, want 10", frames)
	}
}

func TestCoalescer_Slot_refusesWhatNoDatagramHolds(t *testing.T) {
	t.Parallel()
	c, _ := newPair(t, IP, allFeatures)
	if c.Slot(-1) != nil || c.Slot(MaxPlaintext+1) != nil {
		t.Error("got a slot")
	}
	if len(c.Slot(MaxPlaintext)) != MaxPlaintext {
		t.Error("no slot for the largest plaintext")
	}
	c.Commit(MaxPlaintext + 1)
	c.Commit(5)
	c.Cancel()
	c.Flush()
}

func TestCoalescer_doesNotAllocate(t *testing.T) {
	s := data(IP)
	var packets [][]byte
	for i := range 40 {
		p := s
		p.sport += uint16(i / 3 % 7)
		packets = append(packets, p.build(t))
		if i%3 == 2 {
			s = after(s)
		}
	}
	c := NewCoalescer(IP, 0, allFeatures, func([]byte, uint32) {})
	c.VerifyChecksums(true)
	got := testing.AllocsPerRun(20, func() {
		for _, p := range packets {
			copy(c.Slot(len(p)), p)
			c.Commit(len(p))
		}
		copy(c.Slot(100), packets[0])
		c.Cancel()
		c.Flush()
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkCoalescer(b *testing.B) {
	cases := []struct {
		name string
		spec spec
		n    int
	}{
		{"superpacket47", spec{src: 1, dst: 2, ttl: 64, df: true, flags: 0x10, stamp: 1, payload: make([]byte, 1368)}, 47},
		{"udp64x64B", spec{src: 1, dst: 2, ttl: 64, df: true, udp: true, payload: make([]byte, 64)}, 64},
		{"acks", spec{src: 1, dst: 2, ttl: 64, df: true, flags: 0x10, stamp: 1}, 64},
	}
	for _, test := range cases {
		for _, verify := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/verify=%v", test.name, verify), func(b *testing.B) {
				var packets [][]byte
				for range test.n {
					packets = append(packets, test.spec.build(b))
					test.spec = after(test.spec)
				}
				frames := 0
				c := NewCoalescer(IP, 0, allFeatures, func([]byte, uint32) { frames++ })
				c.VerifyChecksums(verify)
				b.SetBytes(int64(test.n * len(test.spec.payload)))
				b.ReportAllocs()
				for b.Loop() {
					for _, p := range packets {
						copy(c.Slot(len(p)), p)
						c.Commit(len(p))
					}
					c.Flush()
				}
				b.ReportMetric(float64(frames)/float64(b.N), "frames/op")
			})
		}
	}
}

// DHCP is not joined, and keeps its checksum: its programs read with packet sockets, which show
// superpackets and unfinished checksums as they are.
func TestCoalescer_DHCPPassesAsItIs(t *testing.T) {
	t.Parallel()
	for _, ports := range [][2]uint16{{67, 68}, {68, 67}, {67, 67}, {40000, 67}, {1067, 1068}} {
		c, d := newPair(t, Ethernet, allFeatures)
		s := data(Ethernet)
		s.udp, s.sport, s.dport = true, ports[0], ports[1]
		p := s.build(t)
		feed(t, c, p)
		feed(t, c, p)
		c.Flush()
		asItIs := len(d.frames) == 2
		for _, f := range d.frames {
			asItIs = asItIs && bytes.Equal(f[:VirtioHeaderLen], make([]byte, VirtioHeaderLen)) && bytes.Equal(f[VirtioHeaderLen:], p)
		}
		if want := ports[0] != 1067; asItIs != want {
			t.Errorf("from port %d to %d: passes as it is: %v, want %v", ports[0], ports[1], asItIs, want)
		}
	}
}

package offload

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"tund/internal/drop"
)

func TestSplitter_refusesFarMoreThanWasRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		spec spec
		size int // of the payload
		gso  int
		ok   bool
	}{
		{"1 byte each", spec{}, 60000, 1, false},
		{"8 bytes each", spec{}, 60000, 8, false},
		{"16 bytes each", spec{}, 60000, 16, false},
		{"1 byte each, UDP", spec{udp: true}, 60000, 1, false},
		{"16 bytes each, UDP", spec{udp: true}, 60000, 16, false},
		{"129 of 1 byte", spec{}, 129, 1, false},
		{"64 of 1 byte, as NAPI joins them", spec{udp: true}, 64, 1, true},
		{"128 datagrams of 20 bytes", spec{udp: true}, 128 * 20, 20, true},
		{"the least MSS with timestamps", spec{stamp: 1}, 60000, 36, true},
		{"the least MSS, IPv6, two VLAN tags", spec{stamp: 1, v6: true, link: Ethernet, vlans: []uint16{1, 2}}, 60000, 36, true},
		{"MSS 88", spec{}, 60000, 88, true},
		{"MSS 216", spec{}, 65000, 216, true},
		{"MSS 536", spec{}, 65000, 536, true},
		{"MSS 1448", spec{stamp: 1}, 65000, 1448, true},
	} {
		s := data(c.spec.link)
		s.v6, s.udp, s.vlans, s.stamp, s.payload = c.spec.v6, c.spec.udp, c.spec.vlans, c.spec.stamp, pattern(c.size)
		frame := superpacket(t, s, c.gso)
		length, made := len(frame), 0
		var sp Splitter
		reason := sp.Begin(frame, s.link, 0, 1500)
		for {
			b, n := sp.Next()
			if b == nil {
				break
			}
			made += n + datagramHeaders
		}
		if (reason == drop.None) != c.ok || !c.ok && (reason != drop.TinySegments || made != 0) {
			t.Errorf("%s: %v, %d bytes made of %d", c.name, reason, made, length)
		}
		if made > max(maxGrowth*length, PartSegments*(150+c.gso)) {
			t.Errorf("%s: %d bytes made of %d", c.name, made, length)
		}
	}
}

// cutInParts cuts a superpacket as the send loop does, in parts, and returns the segments. With
// copied, each part is cut from a copy, as for several receivers.
func cutInParts(t *testing.T, frame []byte, link Link, copied bool) (out [][]byte) {
	t.Helper()
	var sp Splitter
	var rest Rest
	for buf := frame; ; buf = buf[rest.Len():] {
		if reason := sp.Begin(buf, link, 0, 1500); reason != drop.None {
			t.Fatalf("%v after %d segments", reason, len(out))
		}
		sp.Part(&rest)
		if n := sp.Count(); n > PartSegments {
			t.Fatalf("a part of %d segments", n)
		}
		if copied {
			sp.Begin(append([]byte(nil), buf...), link, 0, 1500)
			sp.Part(nil)
		}
		for {
			b, n := sp.Next()
			if b == nil {
				break
			}
			out = append(out, append([]byte(nil), b[:n]...))
			clear(b) // the caller may change it
		}
		if rest.Len() == 0 {
			return out
		}
		rest.Put(buf)
	}
}

func TestSplitter_partsAreTheWhole(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 9))
	for range 300 {
		s, _ := randomSuper(r)
		gso := 24 + r.IntN(400)
		s.payload = randomBytes(r, gso*PartSegments+r.IntN(60000-gso*PartSegments%60000))
		s.payload = s.payload[:min(len(s.payload), 65000)]
		s.flags |= uint8(r.IntN(2)) << 7 & tcpCWR
		frame := superpacket(t, s, gso)
		want := slowSplit(t, s.link, frame)
		var sp Splitter
		if sp.Begin(append([]byte(nil), frame...), s.link, 0, 1500) != drop.None {
			continue // excessive
		}
		got := cutInParts(t, frame, s.link, r.IntN(2) == 0)
		if len(got) != len(want) {
			t.Fatalf("%+v: %d segments, want %d", s, len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("segment %d of %d of %d bytes:\n got %x\nwant %x", i, len(want), gso, got[i], want[i])
			}
		}
	}
}

func TestCoalescer_writesNoTinyAndNoEndlessSuperpackets(t *testing.T) {
	t.Parallel()
	for _, payload := range []int{1, 2, 8, minJoined - 1, minJoined, 36, 88} {
		for _, udp := range []bool{false, true} {
			c, d := newPair(t, IP, allFeatures)
			s := data(IP)
			s.udp, s.payload = udp, pattern(payload)
			var in [][]byte
			for range 1200 {
				in = append(in, s.build(t))
				feed(t, c, in[len(in)-1])
				s = after(s)
			}
			c.Flush()
			for _, f := range d.frames {
				var h VirtioHeader
				h.Decode(f)
				if h.GSOType == GSONone {
					continue
				}
				if n := len(slowSplit(t, IP, f)); h.GSOSize < minJoined || n > maxJoined {
					t.Fatalf("a superpacket of %d segments of %d bytes", n, h.GSOSize)
				}
			}
			if payload >= minJoined && len(d.frames) > len(in)/32 {
				t.Errorf("%d frames of %d packets of %d bytes", len(d.frames), len(in), payload)
			}
			comparePackets(t, size(payload), IP, d.packets(), in)
		}
	}
}

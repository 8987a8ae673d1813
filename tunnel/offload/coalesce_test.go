package offload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

var allFeatures = Features{Checksum: true, TSO: true, USO: true}

// feed gives one packet to c as a message would: into the slot, padded to 16, then committed.
func feed(t testing.TB, c *Coalescer, packet []byte) {
	t.Helper()
	n := (len(packet) + c.prefix + MaxPadding) &^ MaxPadding
	b := c.Slot(n)
	if len(b) != n || cap(b) != n {
		t.Fatalf("Slot(%d) has %d of %d bytes", n, len(b), cap(b))
	}
	clear(b)
	for i := range c.prefix {
		b[i] = 0xee
	}
	copy(b[c.prefix:], packet)
	c.Commit(len(packet) + c.prefix)
}

// device collects what a Coalescer writes.
type device struct {
	t      testing.TB
	link   Link
	frames [][]byte
	from   []uint32 // of each
}

func (d *device) write(frame []byte, from uint32) {
	d.frames, d.from = append(d.frames, append([]byte(nil), frame...)), append(d.from, from)
	clear(frame) // borrowed, and may be changed
}

// packets is everything written, cut into packets by the oracle.
func (d *device) packets() (out [][]byte) {
	d.t.Helper()
	for _, f := range d.frames {
		out = append(out, slowSplit(d.t, d.link, f)...)
	}
	return out
}

func newPair(t testing.TB, link Link, f Features) (*Coalescer, *device) {
	d := &device{t: t, link: link}
	prefix := 0
	if link == Ethernet {
		prefix = 4
	}
	return NewCoalescer(link, prefix, f, d.write), d
}

// data is a plain segment that others continue.
func data(link Link) spec {
	return spec{link: link, src: 1, dst: 2, sport: 4000, dport: 443, seq: 1 << 31, ack: 77, flags: 0x10, window: 500,
		stamp: 99, ttl: 64, tos: 2, id: 0xfff0, df: true, payload: pattern(1000)}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// after is the segment that continues s.
func after(s spec) spec {
	s.seq += uint32(len(s.payload))
	s.id++
	return s
}

func TestCoalescer_segmentLandsInItsFinalPlace(t *testing.T) {
	t.Parallel()
	c, d := newPair(t, IP, allFeatures)
	s := data(IP)
	headers := frameTransport(&s) + 32
	feed(t, c, s.build(t))
	for range 9 {
		s = after(s)
		p := s.build(t)
		at := c.trains[0].end
		b := c.Slot(len(p))
		if &b[headers] != &c.trains[0].buf[at] {
			t.Fatal("the payload does not land behind the train")
		}
		copy(b, p)
		c.Commit(len(p))
		if c.trains[0].end != at+1000 || len(c.free) != 0 {
			t.Fatal("the segment was not joined where it lay")
		}
	}
	c.Flush()
	if len(d.frames) != 1 || len(d.packets()) != 10 {
		t.Errorf("%d frames", len(d.frames))
	}
}

func TestCoalescer_wholeSuperpacketIsOneWrite(t *testing.T) {
	t.Parallel()
	c, d := newPair(t, IP, allFeatures)
	s := data(IP)
	s.payload = pattern(1368)
	var in [][]byte
	for i := range 47 {
		if i == 46 {
			s.flags |= tcpPSH
		}
		in = append(in, s.build(t))
		feed(t, c, in[i])
		s = after(s)
	}
	if len(d.frames) != 1 || c.open != 0 {
		t.Fatalf("%d frames written, %d open", len(d.frames), c.open)
	}
	var h VirtioHeader
	h.Decode(d.frames[0])
	if want := (VirtioHeader{NeedsChecksum, GSOTCPv4, 52, 1368, 20, 16}); h != want {
		t.Errorf("header %+v, want %+v", h, want)
	}
	comparePackets(t, "superpacket", IP, d.packets(), in)
}

func TestCoalescer_sizeLimits(t *testing.T) {
	t.Parallel()
	for _, payload := range []int{64, 500, 1368, 1448, 8948, 30000, 32735, 65483} {
		for _, udp := range []bool{false, true} {
			c, d := newPair(t, Ethernet, allFeatures)
			s := data(Ethernet)
			s.udp, s.payload, s.stamp = udp, pattern(payload), 0
			var in [][]byte
			for range 150 {
				in = append(in, s.build(t))
				feed(t, c, in[len(in)-1])
				s = after(s)
			}
			c.Flush()
			for _, f := range d.frames {
				if len(f)-VirtioHeaderLen-14 > 65535 {
					t.Fatalf("IP packet of %d bytes", len(f)-VirtioHeaderLen-14)
				}
				if n := len(slowSplit(t, Ethernet, f)); udp && n > maxDatagrams {
					t.Fatalf("%d datagrams in a frame", n)
				}
			}
			comparePackets(t, fmt.Sprintf("payload %d, udp %v", payload, udp), Ethernet, d.packets(), in)
		}
	}
}

func TestCoalescer_interleavedFlowsDoNotBreakTrains(t *testing.T) {
	t.Parallel()
	c, d := newPair(t, IP, allFeatures)
	flows := []spec{data(IP), data(IP), data(IP), data(IP)}
	ack := data(IP)
	ack.src, ack.dst, ack.payload = 8, 9, nil
	for i := range flows {
		flows[i].sport += uint16(i)
	}
	n := 0
	for i := range 40 {
		for j := range flows {
			feed(t, c, flows[j].build(t))
			flows[j] = after(flows[j])
			n++
		}
		if i%4 == 0 {
			feed(t, c, ack.build(t))
			n++
		}
	}
	c.Flush()
	if len(d.frames) != 4+10 {
		t.Errorf("%d frames, want 14", len(d.frames))
	}
	if got := len(d.packets()); got != n {
		t.Errorf("%d packets, want %d", got, n)
	}
}

func TestCoalescer_leastRecentlyUsedTrainGoesFirst(t *testing.T) {
	t.Parallel()
	c, d := newPair(t, IP, allFeatures)
	for _, port := range []uint16{1, 2, 3, 4, 1, 5} {
		s := data(IP)
		s.sport = port
		if port == 1 && c.open > 0 {
			s = after(s)
		}
		feed(t, c, s.build(t))
	}
	if len(d.frames) != 1 || binary.BigEndian.Uint16(d.frames[0][VirtioHeaderLen+20:]) != 2 {
		t.Fatalf("%d frames", len(d.frames))
	}
	c.Flush()
	var ports []uint16
	for _, f := range d.frames {
		ports = append(ports, binary.BigEndian.Uint16(f[VirtioHeaderLen+20:]))
	}
	if fmt.Sprint(ports) != "[2 3 4 1 5]" {
		t.Errorf("order of writes %v", ports)
	}
}

func TestCoalescer_fragmentKeepsItsPlaceAmongItsAddresses(t *testing.T) {
	t.Parallel()
	c, d := newPair(t, IP, allFeatures)
	one, two, other := data(IP), data(IP), data(IP)
	two.sport++
	other.src++
	fragment := data(IP)
	fragment.more = true
	for _, s := range []spec{one, two, other, fragment} {
		feed(t, c, s.build(t))
	}
	if len(d.frames) != 3 || d.frames[2][VirtioHeaderLen+6]&0x20 == 0 {
		t.Errorf("%d frames before Flush", len(d.frames))
	}
	if h := d.frames[2][:VirtioHeaderLen]; !bytes.Equal(h, make([]byte, VirtioHeaderLen)) {
		t.Errorf("a fragment has virtio header %x", h)
	}
}

func TestCoalescer_trustLeavesSumsToTheKernelAndVerifyDoesNot(t *testing.T) {
	t.Parallel()
	good := data(IP).build(t)
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1
	for _, verify := range []bool{false, true} {
		c, d := newPair(t, IP, Features{Checksum: true})
		c.VerifyChecksums(verify)
		feed(t, c, good)
		feed(t, c, bad)
		var flags []uint8
		for _, f := range d.frames {
			flags = append(flags, f[0])
		}
		if want := map[bool]string{false: "[1 1]", true: "[1 0]"}[verify]; fmt.Sprint(flags) != want {
			t.Errorf("verify %v: flags %v, want %v", verify, flags, want)
		}
		if verify && !bytes.Equal(d.frames[1][VirtioHeaderLen:], bad) {
			t.Error("a packet with a wrong checksum was changed")
		}
	}
}

func TestCoalescer_wrongChecksumEndsItsTrainWhenVerifying(t *testing.T) {
	t.Parallel()
	c, d := newPair(t, IP, allFeatures)
	c.VerifyChecksums(true)
	s := data(IP)
	var in [][]byte
	for i := range 9 {
		p := s.build(t)
		if i == 4 {
			p[len(p)-1] ^= 1
		}
		in = append(in, p)
		feed(t, c, p)
		s = after(s)
	}
	c.Flush()
	if len(d.frames) != 3 {
		t.Errorf("%d frames, want 3", len(d.frames))
	}
	comparePackets(t, "verify", IP, d.packets(), in)
}

func TestCoalescer_udpWithoutChecksumStaysSo(t *testing.T) {
	t.Parallel()
	c, d := newPair(t, IP, allFeatures)
	s := data(IP)
	s.udp, s.noSum = true, true
	p := s.build(t)
	feed(t, c, p)
	c.Flush()
	if !bytes.Equal(d.frames[0][:VirtioHeaderLen], make([]byte, VirtioHeaderLen)) || !bytes.Equal(d.frames[0][VirtioHeaderLen:], p) {
		t.Errorf("frame %x", d.frames[0][:60])
	}
}

// What two peers sent does not leave as one, even if it continues each other, and stays in order.
func TestCoalescer_joinsNoPacketsOfDifferentOrigin(t *testing.T) {
	t.Parallel()
	c, d := newPair(t, IP, allFeatures)
	s, other := data(IP), data(IP)
	other.sport = 4001
	var in [][]byte
	var want []uint32
	for _, from := range []uint32{7, 7, 7, 9, 9, 7} {
		c.From(from)
		in = append(in, s.build(t))
		feed(t, c, in[len(in)-1])
		s = after(s)
		if from == 9 { // another flow, so that the packet after it is looked for among the trains
			feed(t, c, other.build(t))
			other = after(other)
		}
		want = append(want, from)
	}
	c.Flush()
	var got []uint32
	var out [][]byte
	for i, f := range d.frames {
		for _, p := range slowSplit(t, IP, f) {
			if binary.BigEndian.Uint16(p[20:]) == s.sport {
				got, out = append(got, d.from[i]), append(out, p)
			}
		}
	}
	if !slices.Equal(got, want) || len(d.frames) != 4 {
		t.Errorf("packets from %d in %d frames, want from %d in 4", got, len(d.frames), want)
	}
	for i := range in {
		if !bytes.Equal(out[i], in[i]) {
			t.Errorf("packet %d has changed", i)
		}
	}
}

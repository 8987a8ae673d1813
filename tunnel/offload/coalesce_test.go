package offload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
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
}

func (d *device) write(frame []byte) {
	d.frames = append(d.frames, append([]byte(nil), frame...))
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

// joinRule is a change to a segment and the one that continues it, and how many frames they then make.
type joinRule struct {
	name   string
	both   func(*spec)
	second func(*spec)
	frames int
}

func joinRules() []joinRule {
	v6 := func(s *spec) { s.v6 = true }
	udp := func(s *spec) { s.udp = true }
	noDF := func(s *spec) { s.df = false }
	zero := func(s *spec) { s.udp, s.noSum = true, true }
	nothing := func(*spec) {}
	return []joinRule{
		{"TCPv4", nothing, nothing, 1},
		{"TCPv6", v6, nothing, 1},
		{"UDPv4", udp, nothing, 1},
		{"UDPv6", func(s *spec) { s.udp, s.v6 = true, true }, nothing, 1},
		{"UDPv4 without checksum", zero, nothing, 1},
		{"UDPv4 one without checksum", udp, func(s *spec) { s.noSum = true }, 2},
		{"one VLAN", func(s *spec) { s.vlans = []uint16{5} }, nothing, 1},
		{"two VLANs", func(s *spec) { s.vlans = []uint16{5, 6} }, nothing, 1},
		{"shorter last", nothing, func(s *spec) { s.payload = s.payload[:10] }, 1},
		{"UDP shorter last", udp, func(s *spec) { s.payload = s.payload[:10] }, 1},
		{"longer last", nothing, func(s *spec) { s.payload = pattern(1001) }, 2},
		{"UDP longer last", udp, func(s *spec) { s.payload = pattern(1001) }, 2},
		{"PSH on the second", nothing, func(s *spec) { s.flags |= tcpPSH }, 1},
		{"FIN on the second", nothing, func(s *spec) { s.flags |= tcpFIN }, 1},
		{"ECE on both", func(s *spec) { s.flags |= 0x40 }, nothing, 1},
		{"ECE on the second", nothing, func(s *spec) { s.flags |= 0x40 }, 2},
		{"CWR on the second", nothing, func(s *spec) { s.flags |= tcpCWR }, 2},
		{"CWR on both", func(s *spec) { s.flags |= tcpCWR }, nothing, 2},
		{"URG on both", func(s *spec) { s.flags |= tcpURG }, nothing, 2},
		{"SYN on both", func(s *spec) { s.flags |= tcpSYN }, nothing, 2},
		{"RST on the second", nothing, func(s *spec) { s.flags |= tcpRST }, 2},
		{"PSH on the first", func(s *spec) { s.flags |= tcpPSH }, nothing, 2},
		{"acknowledgement", nothing, func(s *spec) { s.ack++ }, 2},
		{"window", nothing, func(s *spec) { s.window++ }, 2},
		{"option bytes", nothing, func(s *spec) { s.stamp++ }, 2},
		{"option gone", nothing, func(s *spec) { s.stamp = 0 }, 2},
		{"a gap", nothing, func(s *spec) { s.seq++ }, 2},
		{"a repetition", nothing, func(s *spec) { s.seq -= 1000 }, 2},
		{"TTL", nothing, func(s *spec) { s.ttl-- }, 2},
		{"hop limit", v6, func(s *spec) { s.ttl-- }, 2},
		{"TOS", nothing, func(s *spec) { s.tos ^= 1 }, 2},
		{"traffic class", v6, func(s *spec) { s.tos ^= 1 }, 2},
		{"flow label", v6, func(s *spec) { s.label++ }, 2},
		{"DF", nothing, func(s *spec) { s.df = false }, 2},
		{"fixed ID with DF", nothing, func(s *spec) { s.id-- }, 1},
		{"ID jumps with DF", nothing, func(s *spec) { s.id++ }, 2},
		{"counting ID without DF", noDF, nothing, 1},
		{"fixed ID without DF", noDF, func(s *spec) { s.id-- }, 2},
		{"first fragments", func(s *spec) { s.more = true }, nothing, 2},
		{"IP options", func(s *spec) { s.options = true }, nothing, 2},
		{"source", nothing, func(s *spec) { s.src++ }, 2},
		{"destination", nothing, func(s *spec) { s.dst++ }, 2},
		{"source port", nothing, func(s *spec) { s.sport++ }, 2},
		{"destination port", nothing, func(s *spec) { s.dport++ }, 2},
		{"UDP after TCP", nothing, func(s *spec) { s.udp = true }, 2},
		{"pure acknowledgement", nothing, func(s *spec) { s.payload = nil }, 2},
		{"empty datagrams", func(s *spec) { s.udp, s.payload = true, nil }, nothing, 2},
	}
}

// TestCoalescer_joinRules takes a first segment and the one that continues it, changes one thing, and counts the frames.
func TestCoalescer_joinRules(t *testing.T) {
	t.Parallel()
	for _, link := range []Link{IP, Ethernet} {
		for _, test := range joinRules() {
			c, d := newPair(t, link, allFeatures)
			first := data(link)
			test.both(&first)
			if link == IP {
				first.vlans = nil
			}
			second := after(first)
			test.second(&second)
			in := [][]byte{first.build(t), second.build(t)}
			feed(t, c, in[0])
			feed(t, c, in[1])
			c.Flush()
			if len(d.frames) != test.frames {
				t.Errorf("link %d, %s: %d frames, want %d", link, test.name, len(d.frames), test.frames)
			}
			comparePackets(t, fmt.Sprintf("link %d, %s", link, test.name), link, d.packets(), in)
		}
	}
}

func TestCoalescer_differentEthernetHeadersAreNotJoined(t *testing.T) {
	t.Parallel()
	for at := range 18 {
		c, d := newPair(t, Ethernet, allFeatures)
		first := data(Ethernet)
		first.vlans = []uint16{5}
		a, b := first.build(t), after(first).build(t)
		b[at] ^= 2
		feed(t, c, a)
		feed(t, c, b)
		c.Flush()
		if len(d.frames) != 2 {
			t.Errorf("byte %d differs: %d frames", at, len(d.frames))
		}
	}
}

// TestCoalescer_faultsAreNotJoinedAway edits the second packet's bytes: a join would give it the first one's good headers.
func TestCoalescer_faultsAreNotJoinedAway(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		udp  bool
		edit func(p []byte) []byte
	}{
		{"IPv4 header checksum", false, func(p []byte) []byte { p[10] ^= 1; return p }},
		{"IPv4 header checksum of UDP", true, func(p []byte) []byte { p[11] ^= 1; return p }},
		{"total length short", false, func(p []byte) []byte { p[3]--; p[11]++; return p }},
		{"bytes behind the packet", false, func(p []byte) []byte { return append(p[:len(p)-20], p[:15]...) }},
		{"UDP length short", true, func(p []byte) []byte { p[25]--; return p }},
		{"urgent pointer", false, func(p []byte) []byte { p[39]++; return p }},
		{"reserved TCP bit", false, func(p []byte) []byte { p[32] |= 2; return p }},
	}
	for _, test := range tests {
		for _, first := range []bool{false, true} {
			c, d := newPair(t, IP, allFeatures)
			s := data(IP)
			s.udp = test.udp
			in := [][]byte{s.build(t), after(s).build(t)}
			if first { // the first is at fault: the second must not be joined to it
				in[0] = test.edit(in[0])
			} else {
				in[1] = test.edit(in[1])
			}
			feed(t, c, in[0])
			feed(t, c, in[1])
			c.Flush()
			if len(d.frames) != 2 {
				t.Errorf("%s, first %v: %d frames", test.name, first, len(d.frames))
			}
			compareLoose(t, IP, d, in)
		}
	}
}

// normal makes equal what joining may change: the ID under DF (RFC 6864 §4.1), and a UDP checksum where there was none.
func normal(packet []byte, link Link) []byte {
	p := append([]byte(nil), packet...)
	at, version := network(p, link)
	if version == 4 && p[at+6]&0x40 != 0 && p[at+9] == 6 || version == 4 && p[at+6]&0x40 != 0 && p[at+9] == 17 {
		ip := p[at:]
		wrong := slowSum(ip[:int(ip[0]&15)*4], 0) != 0xffff
		copy(ip[4:6], []byte{0, 0})
		copy(ip[10:12], []byte{0, 0})
		if wrong {
			ip[10] = 1
		}
	}
	return p
}

// comparePackets wants the same packets in the same order within each flow, with valid checksums.
func comparePackets(t testing.TB, what string, link Link, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d packets, want %d", what, len(got), len(want))
	}
	byFlow := func(list [][]byte) map[string][][]byte {
		m := map[string][][]byte{}
		for _, p := range list {
			k := flowOf(p, link)
			m[k] = append(m[k], p)
		}
		return m
	}
	g, w := byFlow(got), byFlow(want)
	for k, list := range w {
		for i, p := range list {
			if i >= len(g[k]) {
				t.Fatalf("%s: flow %q has %d packets, want %d", what, k, len(g[k]), len(list))
			}
			compareOne(t, fmt.Sprintf("%s: flow %q packet %d", what, k, i), link, g[k][i], p)
		}
	}
}

func compareOne(t testing.TB, what string, link Link, got, want []byte) {
	t.Helper()
	a, b := normal(got, link), normal(want, link)
	if bytes.Equal(a, b) {
		return
	}
	at, version := network(b, link)
	if version == 4 && b[at+9] == protoUDP && b[at+20+6] == 0 && b[at+20+7] == 0 && len(a) == len(b) {
		l4 := a[at+20:]
		if fold(Sum(l4, pseudoSum(a[at:], 4, protoUDP)+uint64(len(l4)))) == 0xffff {
			l4[6], l4[7] = 0, 0
		}
		if bytes.Equal(a, b) {
			return
		}
	}
	t.Fatalf("%s:\n got %x\nwant %x", what, got, want)
}

// flowOf names the flow of a packet: what must keep its order.
func flowOf(p []byte, link Link) string {
	at, version := network(p, link)
	if version == 0 {
		return "other"
	}
	offset, proto, _, ok := transport(p[at:], version)
	addresses := p[at+12 : at+20]
	if version == 6 {
		addresses = p[at+8 : at+40]
	}
	if !ok || proto != protoTCP && proto != protoUDP || len(p) < at+offset+4 {
		return fmt.Sprintf("%x", addresses)
	}
	return fmt.Sprintf("%x %d %x", addresses, proto, p[at+offset:at+offset+4])
}

// TestCoalescer_randomTrafficIsIdentity mixes flows, oddities and cancelled slots, in all modes.
func TestCoalescer_randomTrafficIsIdentity(t *testing.T) {
	t.Parallel()
	joined := 0
	for seed := range uint64(42) {
		r := rand.New(rand.NewPCG(13, seed))
		link := Link(seed % 2)
		features := allFeatures
		if seed%7 == 3 {
			features.USO = false
		}
		if seed%7 == 5 {
			features = Features{}
		}
		c, d := newPair(t, link, features)
		c.VerifyChecksums(seed%3 == 0)
		g := newTraffic(r, link, seed%3 == 0 || features == Features{})
		var in [][]byte
		for range 400 {
			p := g.next(t)
			disturb(t, c, r)
			feed(t, c, p)
			in = append(in, p)
			if r.IntN(80) == 0 {
				c.Flush()
			}
		}
		c.Flush()
		if c.open != 0 || len(c.free) > maxTrains+1 {
			t.Fatalf("%d trains open, %d buffers after Flush", c.open, len(c.free))
		}
		comparePackets(t, fmt.Sprintf("seed %d", seed), link, d.packets(), in)
		joined += len(in) - len(d.frames)
		if features == (Features{}) {
			for i, f := range d.frames {
				if !bytes.Equal(f[:VirtioHeaderLen], make([]byte, VirtioHeaderLen)) || !bytes.Equal(f[VirtioHeaderLen:], in[i]) {
					t.Fatalf("seed %d: frame %d changed for a device without features", seed, i)
				}
			}
		}
	}
	if joined < 42*80 {
		t.Errorf("only %d packets joined: this test does not test much", joined)
	}
}

// disturb asks for a slot, writes rubbish or zeroes into it, and gives it up.
func disturb(t testing.TB, c *Coalescer, r *rand.Rand) {
	if r.IntN(4) != 0 {
		return
	}
	for range 1 + r.IntN(2) {
		b := c.Slot(r.IntN(1500))
		for i := range b {
			b[i] = byte(r.Uint32() * uint32(r.IntN(2)))
		}
		if r.IntN(8) != 0 {
			c.Cancel()
		} else if r.IntN(2) == 0 {
			c.Commit(0)
		} // else the next Slot cancels
	}
}

// traffic makes packets of a few flows, mostly in trains, with everything that can be odd about one now and then.
type traffic struct {
	r     *rand.Rand
	link  Link
	wrong bool // wrong checksums may occur
	flows []spec
	last  int
}

func newTraffic(r *rand.Rand, link Link, wrong bool) *traffic {
	g := &traffic{r: r, link: link, wrong: wrong}
	for i := range 6 {
		s := data(link)
		s.v6, s.udp, s.df = r.IntN(2) == 0, r.IntN(3) == 0, r.IntN(2) == 0
		s.src, s.sport = byte(1+i/2), uint16(4000+i)
		s.seq, s.id = r.Uint32(), uint16(r.Uint32())
		s.noSum = s.udp && !s.v6 && r.IntN(2) == 0
		s.payload = randomBytes(r, 1+r.IntN(1400))
		if link == Ethernet && r.IntN(2) == 0 {
			s.vlans = []uint16{uint16(i + 1)}
		}
		g.flows = append(g.flows, s)
	}
	return g
}

func (g *traffic) next(t testing.TB) []byte {
	r := g.r
	if r.IntN(6) == 0 {
		g.last = r.IntN(len(g.flows))
	}
	f := &g.flows[g.last]
	s := *f
	*f = after(s)
	switch r.IntN(60) {
	case 0:
		s.flags |= 1 << r.IntN(8)
	case 1:
		s.payload = s.payload[:r.IntN(len(s.payload))]
		f.seq = s.seq + uint32(len(s.payload))
	case 2:
		s.payload = nil
		*f = s
		f.payload = randomBytes(r, 1+r.IntN(1400))
	case 3:
		f.seq++
	case 4:
		f.stamp = r.Uint64() | 1
		f.ack++
	case 5:
		s.options = !s.v6
	case 6:
		s.more = true
	case 7:
		f.id -= 1
	case 8:
		f.window++
	case 9:
		s.flags |= tcpPSH
	}
	p := s.build(t)
	if n := r.IntN(60); n == 0 && len(p) > 60 && g.link == Ethernet {
		return append(p, 0, 0, 0) // padding
	} else if n == 1 && g.wrong {
		p[len(p)-1] ^= 1
	} else if n == 2 {
		at, version := network(p, g.link)
		if version == 4 {
			p[at+9] = 1 // ICMP, with a wrong header checksum
		}
	} else if n == 3 {
		return p[:frameTransport(&s)+r.IntN(30)%(len(p)-frameTransport(&s)+1)] // cut short
	}
	return p
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

func TestCoalescer_SetFeaturesWithinWrite(t *testing.T) {
	t.Parallel()
	var c *Coalescer
	var frames int
	var sp Splitter
	c = NewCoalescer(IP, 0, allFeatures, func(frame []byte) {
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
	c := NewCoalescer(IP, 0, allFeatures, func([]byte) {})
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

// FuzzCoalescer: any plaintexts, in any order, with slots given up in between, come out as they went in. The input is a list of
// 4-byte commands that edit a few flows, then raw bytes as a packet now and then.
func FuzzCoalescer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0}, uint8(0))
	f.Add(bytes.Repeat([]byte{0x11, 0x80, 3, 0}, 40), uint8(7))
	f.Add(bytes.Repeat([]byte{0x20, 0xc1, 33, 255, 0x20, 0, 0, 0}, 30), uint8(2))
	f.Fuzz(func(t *testing.T, commands []byte, mode uint8) {
		link := Link(mode & 1)
		features := Features{Checksum: mode&2 == 0, TSO: mode&4 == 0, USO: mode&8 == 0}
		c, d := newPair(t, link, features)
		c.VerifyChecksums(mode&16 != 0)
		r := rand.New(rand.NewPCG(uint64(mode), 17))
		g := newTraffic(r, link, false)
		var in [][]byte
		for len(commands) >= 4 && len(in) < 100 {
			op := [4]byte(commands)
			commands = commands[4:]
			p := fuzzPacket(t, g, op, &commands)
			if op[0]&0x40 != 0 {
				clear(c.Slot(int(op[3]) * 6))
				c.Cancel()
			}
			if op[0]&0x80 != 0 {
				c.Flush()
			}
			if len(p) == 0 {
				continue
			}
			feed(t, c, p)
			in = append(in, p)
		}
		c.Flush()
		compareLoose(t, link, d, in)
	})
}

// fuzzPacket is the packet a command asks for: the next of a flow with one byte of it changed, or raw bytes.
func fuzzPacket(t testing.TB, g *traffic, op [4]byte, rest *[]byte) []byte {
	if op[0]&0x3f == 0x3f {
		n := min(int(op[1]), len(*rest))
		p := append([]byte(nil), (*rest)[:n]...)
		*rest = (*rest)[n:]
		return p
	}
	f := &g.flows[int(op[0]&7)%len(g.flows)]
	s := *f
	*f = after(s)
	p := s.build(t)
	if op[0]&8 != 0 {
		p[int(op[1])%min(len(p), 90)] ^= op[2]
	}
	if op[0]&16 != 0 {
		p = p[:len(p)-int(op[3])%len(p)]
	}
	return p
}

// compareLoose compares what went in with what comes out after both are cut and their checksums completed: packets here may
// have any fault, and in trust mode a wrong checksum is made right.
func compareLoose(t testing.TB, link Link, d *device, in [][]byte) {
	t.Helper()
	strip := func(list [][]byte) (out [][]byte) {
		for _, p := range list {
			p = normal(p, link)
			at, version := network(p, link)
			if version != 0 {
				if o, proto, _, ok := transport(p[at:], version); ok && proto == protoTCP && len(p) >= at+o+20 {
					p[at+o+16], p[at+o+17] = 0, 0
				} else if ok && proto == protoUDP && len(p) >= at+o+8 {
					p[at+o+6], p[at+o+7] = 0, 0
				}
			}
			out = append(out, p)
		}
		return out
	}
	comparePackets(t, "fuzz", link, strip(d.packets()), strip(in))
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
				c := NewCoalescer(IP, 0, allFeatures, func([]byte) { frames++ })
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

package offload

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// normal makes equal what joining may change: the ID under DF (RFC 6864 §4.1), and a TCP checksum
// of zero, which the kernel writes in its other form.
func normal(packet []byte, link Link) []byte {
	p := append([]byte(nil), packet...)
	at, version := network(p, link)
	if version == 4 && p[at+6]&0x40 != 0 && p[at+9] == 6 || version == 4 && p[at+6]&0x40 != 0 && p[at+9] == 17 {
		ip := p[at:]
		wrong := slowSum(ip[:min(int(ip[0]&15)*4, len(ip))], 0) != 0xffff
		copy(ip[4:6], []byte{0, 0})
		copy(ip[10:12], []byte{0, 0})
		if wrong {
			ip[10] = 1
		}
	}
	if version != 0 {
		l4, proto, _, ok := transport(p[at:], version)
		if sum := at + l4 + tcpChecksum; ok && proto == protoTCP && len(p) >= sum+2 && p[sum] == 0xff && p[sum+1] == 0xff {
			p[sum], p[sum+1] = 0, 0
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
	if version == 4 && b[at+9] == protoUDP && len(b) >= at+28 && b[at+20+6] == 0 && b[at+20+7] == 0 && len(a) == len(b) {
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

// traffic makes packets of a few flows, mostly in trains, with everything that can be odd about one
// now and then.
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

// FuzzCoalescer: any plaintexts, in any order, with slots given up in between, come out as they
// went in. The input is a list of 4-byte commands that edit a few flows, then raw bytes as a packet
// now and then.
func FuzzCoalescer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0}, uint8(0))
	f.Add(bytes.Repeat([]byte{0x11, 0x80, 3, 0}, 40), uint8(7))
	f.Add(bytes.Repeat([]byte{0x20, 0xc1, 33, 255, 0x20, 0, 0, 0}, 30), uint8(2))
	for i, s := range victims() { // a short packet, and one that repeats itself, as raw bytes
		for _, period := range []int{1, 4, 15, 23, 40} {
			s.payload = pattern(period)
			victim := s.build(f)
			var commands []byte
			for _, p := range [][]byte{victim, periodic(victim, s.link, period)} {
				commands = append(append(commands, 0x3f, byte(len(p)), 0, 0), p...)
			}
			f.Add(commands, uint8(s.link)|uint8(i/12)<<4)
		}
	}
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

// fuzzPacket is the packet a command asks for: the next of a flow with one byte of it changed, or
// raw bytes.
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

// compareLoose compares what went in with what comes out after both are cut and their checksums
// completed: packets here may have any fault, and in trust mode a wrong checksum is made right.
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

package offload

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"tund/internal/testnet"
)

// periodic returns a packet that begins like victim and then repeats itself every period bytes as
// far as its headers go, with what the Coalescer checks by itself as a continuation of victim has
// it: lengths, IPv4 header checksum and TCP sequence number. Where it is written period bytes
// behind the start of victim, it equals what it has overwritten there.
func periodic(victim []byte, link Link, period int) []byte {
	p := append([]byte(nil), victim...)
	var s segment
	s.parse(victim, link)
	own := func(i int) bool { // bytes that do not repeat
		length := s.network + 2
		if s.version == 6 {
			length += 2
		}
		return i >= length && i < length+2 || i >= s.transport+4 && i < s.transport+8
	}
	for i := period; i < s.headers; i++ {
		if !own(i) {
			p[i] = p[i-period]
		}
	}
	if l4 := p[s.transport:]; s.proto == protoTCP {
		next := binary.BigEndian.Uint32(l4[4:]) + uint32(len(victim)-s.headers)
		binary.BigEndian.PutUint32(l4[4:], next)
	}
	if s.version == 4 {
		ip := p[s.network:]
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^fold(ipv4Sum(ip)))
	}
	return p
}

func TestCoalescer_packetIsNeverComparedWithItself(t *testing.T) {
	t.Parallel()
	for _, s := range victims() {
		for period := 1; period <= 120; period++ {
			c, d := newPair(t, s.link, allFeatures)
			s.payload = pattern(period)
			victim := s.build(t)
			in := [][]byte{victim, periodic(victim, s.link, period)}
			feed(t, c, in[0])
			feed(t, c, in[1])
			c.Flush()
			compareLoose(t, s.link, d, in)
		}
	}
}

// victims are packets that others may continue: on either link, with and without a VLAN tag, IPv4
// and IPv6, UDP, and TCP with and without options.
func victims() (all []spec) {
	for i := range 24 {
		s := data([]Link{IP, Ethernet, Ethernet}[i%3])
		if i%3 == 2 {
			s.vlans = []uint16{7}
		}
		s.v6, s.udp = i/3%2 == 1, i/6%2 == 1
		s.stamp = uint64(i / 12)
		all = append(all, s)
	}
	return all
}

// roundTrip feeds n packets of several peers to Coalescers of either link: short ones, ones that
// continue each other, ones that repeat themselves, other protocols, and changed ones. What goes in
// must come out once, with its own addresses and bytes; where checksums are verified, wrong ones
// come out as wrong as they went in.
func roundTrip(t *testing.T, r *rand.Rand, n int) {
	t.Helper()
	for n > 0 {
		link := []Link{IP, Ethernet}[r.IntN(2)]
		c, d := newPair(t, link, allFeatures)
		verify := r.IntN(4) == 0
		c.VerifyChecksums(verify)
		s, last := data(link), []byte(nil)
		s.v6 = r.IntN(2) == 0
		in := make([][]byte, 0, 32)
		for range 32 {
			p := s.nextShort(t, r)
			if last != nil && r.IntN(3) == 0 {
				p = periodic(last, link, 1+r.IntN(100))
			} else {
				last = p
			}
			switch r.IntN(16) {
			case 0, 1:
				p = append([]byte(nil), p...)
				p[r.IntN(len(p))] ^= 1 << r.IntN(8)
			case 2:
				p = otherProtocol(p, link, r)
			}
			in = append(in, p)
			feed(t, c, p)
		}
		c.Flush()
		if verify {
			comparePackets(t, "verified", link, d.packets(), in)
		} else {
			compareLoose(t, link, d, in)
		}
		n -= len(in)
	}
}

// otherProtocol returns p as a packet of ICMP, SCTP or ESP, or, on Ethernet, as a frame of ARP or
// LLDP.
func otherProtocol(p []byte, link Link, r *rand.Rand) []byte {
	p = append([]byte(nil), p...)
	at, version := network(p, link)
	if link == Ethernet && r.IntN(2) == 0 {
		binary.BigEndian.PutUint16(p[at-2:], []uint16{0x0806, 0x88cc}[r.IntN(2)])
		return p
	}
	proto := []byte{1, 58, 132, 50}[r.IntN(4)]
	if ip := p[at:]; version == 6 {
		ip[6] = proto
	} else {
		ip[9] = proto
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^fold(ipv4Sum(ip)))
	}
	return p
}

// nextShort turns s into a packet of one of four peers, most often one that continues the packet
// before it.
func (s *spec) nextShort(t *testing.T, r *rand.Rand) []byte {
	switch r.IntN(6) {
	case 0:
		s.src, s.udp = byte(1+r.IntN(4)), r.IntN(2) == 0
	case 1:
		s.stamp = uint64(r.IntN(2))
		s.payload = pattern(1 + r.IntN(90))
	case 2:
		s.v6 = r.IntN(2) == 0
		if s.link == Ethernet {
			s.vlans = [][]uint16{nil, {7}, {7, 8}}[r.IntN(3)]
		}
	}
	p := s.build(t)
	*s = after(*s)
	return p
}

func TestCoalescer_shortAndPeriodicPacketsRoundTrip(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		roundTrip(t, rand.New(rand.NewPCG(seed, 9)), 4000)
	}
}

func TestSoakCoalescer_shortAndPeriodicPacketsRoundTrip(t *testing.T) {
	if !testnet.Soaking() {
		t.Skip("takes minutes: TUND_TEST_SOAK=1 runs it")
	}
	seed := rand.Uint64()
	t.Logf("rand.NewPCG(%d, 9)", seed) // shown when the test fails
	roundTrip(t, rand.New(rand.NewPCG(seed, 9)), 2_000_000)
}

// BenchmarkCoalescer_short joins packets of which the first few cannot land in their final place,
// because their headers would lie over those of the train that they continue: they are copied.
func BenchmarkCoalescer_short(b *testing.B) {
	for _, payload := range []int{16, 64, 256, 1000} {
		b.Run(size(payload), func(b *testing.B) {
			c := NewCoalescer(IP, 0, allFeatures, func([]byte, uint32) {})
			s := data(IP)
			s.udp, s.payload = true, pattern(payload)
			packets := make([][]byte, 32)
			for i := range packets {
				packets[i] = s.build(b)
				s = after(s)
			}
			b.SetBytes(int64(len(packets[0])))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := packets[i%len(packets)]
				copy(c.Slot(len(p)), p)
				c.Commit(len(p))
				if i%len(packets) == len(packets)-1 {
					c.Flush()
				}
			}
		})
	}
}

// TestCoalescer_unusualOptionsPassAsTheyAre joins segments whose TCP options no host would send:
// bytes behind the end of the list, and a length of zero. They are compared, not interpreted.
func TestCoalescer_unusualOptionsPassAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"\x01\x05\x08\x0a\x00\x00\x00\x00\x00\x00\x00\x01", "\x05\x00\xff\xff\x01\x01\x01\x01\x00\x02\x00\xff"} {
		c, d := newPair(t, Ethernet, allFeatures)
		s := data(Ethernet)
		s.payload = pattern(59)
		var in [][]byte
		for range 4 {
			p := s.build(t)
			copy(p[len(p)-len(s.payload)-len(options):], options)
			in = append(in, p)
			feed(t, c, p)
			s = after(s)
		}
		c.Flush()
		if len(d.frames) != 1 {
			t.Errorf("%d frames written, want the four packets in one", len(d.frames))
		}
		compareLoose(t, Ethernet, d, in)
	}
}

package offload

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"tund/internal/testnet"
)

// periodic returns a packet that begins like victim and then repeats itself every period bytes as far as the UDP
// ports, with lengths and an IPv4 header checksum that are right. Where it is written period bytes behind the start
// of victim, it equals what it has overwritten there.
func periodic(victim []byte, link Link, period int) []byte {
	p := append([]byte(nil), victim...)
	at, version := network(victim, link)
	ports, length := at+ipv4Header, at+2
	total := len(p) - at
	if version == 6 {
		ports, length, total = at+ipv6Header, at+4, total-ipv6Header
	}
	for i := period; i < ports+4; i++ {
		if i < length || i >= length+2 {
			p[i] = p[i-period]
		}
		if i == length+1 {
			binary.BigEndian.PutUint16(p[length:], uint16(total))
		}
	}
	binary.BigEndian.PutUint16(p[ports+4:], uint16(len(p)-ports))
	if version == 4 {
		ip := p[at:]
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^fold(ipv4Sum(ip)))
	}
	return p
}

func TestCoalescer_packetIsNeverComparedWithItself(t *testing.T) {
	t.Parallel()
	for _, link := range []Link{IP, Ethernet} {
		for _, v6 := range []bool{false, true} {
			for period := 1; period <= 80; period++ {
				c, d := newPair(t, link, allFeatures)
				s := data(link)
				s.udp, s.v6, s.payload = true, v6, pattern(period)
				victim := s.build(t)
				in := [][]byte{victim, periodic(victim, link, period)}
				feed(t, c, in[0])
				feed(t, c, in[1])
				c.Flush()
				compareLoose(t, link, d, in)
			}
		}
	}
}

// roundTrip feeds n packets of several peers to Coalescers of either link: short ones, ones that continue each other,
// ones that repeat themselves, and changed ones. What goes in must come out once, with its own addresses and bytes.
func roundTrip(t *testing.T, r *rand.Rand, n int) {
	t.Helper()
	for n > 0 {
		link := []Link{IP, Ethernet}[r.IntN(2)]
		c, d := newPair(t, link, allFeatures)
		c.VerifyChecksums(r.IntN(4) == 0)
		s, last := data(link), []byte(nil)
		s.v6 = r.IntN(2) == 0
		in := make([][]byte, 0, 32)
		for range 32 {
			p := s.nextShort(t, r)
			if last != nil && r.IntN(3) == 0 {
				p = periodic(last, link, 1+r.IntN(60))
			} else {
				last = nil
				if s.udp {
					last = p
				}
			}
			if r.IntN(8) == 0 {
				p = append([]byte(nil), p...)
				p[r.IntN(len(p))] ^= 1 << r.IntN(8)
			}
			in = append(in, p)
			feed(t, c, p)
		}
		c.Flush()
		compareLoose(t, link, d, in)
		n -= len(in)
	}
}

// nextShort turns s into a packet of one of four peers, most often one that continues the packet before it.
func (s *spec) nextShort(t *testing.T, r *rand.Rand) []byte {
	switch r.IntN(6) {
	case 0:
		s.src, s.udp = byte(1+r.IntN(4)), r.IntN(2) == 0
	case 1:
		s.stamp = uint64(r.IntN(2))
		s.payload = pattern(1 + r.IntN(90))
	case 2:
		s.v6 = r.IntN(2) == 0
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
	roundTrip(t, rand.New(rand.NewPCG(rand.Uint64(), 9)), 10_000_000)
}

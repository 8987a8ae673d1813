package offload

import (
	"fmt"
	"testing"
)

// joinRule is a change to a segment and the one that continues it, and how many frames they then
// make.
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

// TestCoalescer_joinRules takes a first segment and the one that continues it, changes one thing,
// and counts the frames.
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

// TestCoalescer_faultsAreNotJoinedAway edits the second packet's bytes: a join would give it the
// first one's good headers.
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

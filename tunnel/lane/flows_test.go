package lane

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"tund/tunnel/offload"
	"tund/tunnel/tundev/tundevtest"
)

// segment is a TCP segment with a port at an offset, 20 for the source's and 22 for the
// destination's, and flags.
func segment(at, port int, flags byte) []byte {
	p := tundevtest.TCPSegment(netip.AddrFrom4([4]byte{10, 9, 0, 1}), netip.AddrFrom4([4]byte{10, 9, 0, 2}), 0, 100)
	binary.BigEndian.PutUint16(p[at:], uint16(port))
	p[33] = flags
	return p
}

const syn, ack = 0x02, 0x10

// A flow stays in the lane where it began, whichever lane reads its packets later.
func TestFlows_stayWhereTheyBegan(t *testing.T) {
	for name, at := range map[string]int{"ports of a client": 20, "ports of a server's clients": 22} {
		f := NewFlows(4)
		moved := 0
		for port := range 1000 {
			f.lane(segment(at, port, ack), offload.IP, port%4)
		}
		for port := range 1000 {
			if f.lane(segment(at, port, ack), offload.IP, 5) != port%4 {
				moved++
			}
		}
		// Those that share a slot with a later one: some 60 with 1,000 flows in 8,192 slots.
		if moved > 150 {
			t.Errorf("%s: %d of 1000 flows have moved", name, moved)
		}
	}
	f, p := NewFlows(4), segment(20, 7, syn)
	if n := testing.AllocsPerRun(100, func() { f.lane(p, offload.IP, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Connections take the lanes in turn, and keep theirs when the SYN is repeated. So do other flows,
// of which the first packet seen is the first.
func TestFlows_beginInTurn(t *testing.T) {
	f := NewFlows(4)
	for name, packet := range map[string]func(port int) []byte{
		"SYN":     func(port int) []byte { return segment(20, port, syn) },
		"SYN-ACK": func(port int) []byte { return segment(22, port, syn|ack) },
		"UDP": func(port int) []byte {
			p := segment(20, port, 0)
			p[9] = 17
			return p
		},
	} {
		var share [4]int
		for port := range 8 {
			lane := f.lane(packet(port), offload.IP, 2)
			share[lane]++
			if again := f.lane(packet(port), offload.IP, 3); again != lane {
				t.Errorf("%s: lane %d, and %d when repeated", name, lane, again)
			}
		}
		if share != [4]int{2, 2, 2, 2} {
			t.Errorf("%s: eight flows take %v of the lanes", name, share)
		}
	}
}

// A flow that was forgotten, because another shares its slot, is not moved in its middle: its
// packets would overtake each other.
func TestFlows_forgottenOnesStay(t *testing.T) {
	f := NewFlows(4)
	for port := range 60000 { // every slot has been taken
		f.lane(segment(20, port, ack), offload.IP, 1)
	}
	for port := range 60000 {
		if lane := f.lane(segment(22, port, ack), offload.IP, 3); lane != 3 {
			t.Fatalf("a TCP flow that is in lane 3 moves to %d", lane)
		}
		p := segment(22, port, ack)
		p[9] = 17
		if lane := f.lane(p, offload.IP, 2); lane != 2 {
			t.Fatalf("a UDP flow that is in lane 2 moves to %d", lane)
		}
	}
}

package lane

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"tund/tunnel/offload"
	"tund/tunnel/tundev/tundevtest"
)

// A flow stays in the lane where it began, whichever lane reads its packets later.
func TestFlows_stayWhereTheyBegan(t *testing.T) {
	f := new(Flows)
	for name, at := range map[string]int{"ports of a client": 20, "ports of a server's clients": 22} {
		flow := func(port int) uint64 {
			p := tundevtest.TCPSegment(netip.AddrFrom4([4]byte{10, 9, 0, 1}), netip.AddrFrom4([4]byte{10, 9, 0, 2}), 0, 100)
			binary.BigEndian.PutUint16(p[at:], uint16(port))
			return offload.Flow(p, offload.IP)
		}
		moved := 0
		for port := range 1000 {
			f.lane(flow(port), port%4)
		}
		for port := range 1000 {
			if f.lane(flow(port), 5) != port%4 {
				moved++
			}
		}
		// Those that share a slot with a later one: some 60 with 1,000 flows in 8,192 slots.
		if moved > 150 {
			t.Errorf("%s: %d of 1000 flows have moved", name, moved)
		}
	}
	if n := testing.AllocsPerRun(100, func() { f.lane(7, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

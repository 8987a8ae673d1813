package lane

import "sync/atomic"

// Flows remembers in which lane the packets of a flow leave, so that they go on to do so. It is
// used towards peers with several data sessions, by one of the two sides.
//
// The kernel sends what it has for a device to the queue on which a packet of the same flow was
// last written (drivers/net/tun.c, tun_flow_update), that is, to the lane in which the peer's
// packets arrive. If both sides followed each other in that way, a flow whose two directions began
// in different lanes would change lanes at both ends with each round trip, and its packets would
// overtake each other. With one side that stays where it was, the other follows once, and from then
// on queue, lane and session are the same in both directions at both ends.
//
// It takes no lock. Flows that share a slot forget each other's lane, and stay where they are. The
// zero Flows is ready.
type Flows struct {
	slots [flowSlots]atomic.Uint32 // 24 bits of the flow, and the lane plus 1; 0: free
}

// flowSlots is the number of flows remembered: 32 KiB, for some thousand that are active at a time.
const (
	flowBits  = 13
	flowSlots = 1 << flowBits
)

// lane returns the lane of a flow, which is the given one if none is remembered.
func (f *Flows) lane(flow uint64, here int) int {
	slot := &f.slots[flow>>(64-flowBits)] // the high bits depend on everything
	tag := uint32(flow>>(64-flowBits-24)) << 8
	if v := slot.Load(); v&0xff != 0 && v&^0xff == tag {
		return int(v&0xff) - 1
	}
	slot.Store(tag | uint32(here+1))
	return here
}

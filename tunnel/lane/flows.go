package lane

import (
	"sync/atomic"

	"tund/tunnel/offload"
)

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
// The side that stays also chooses where a flow begins: connections take the lanes in turn, because
// the kernel's choice, a hash, leaves a lane of four empty in four of ten cases with eight flows.
// The first packets of the flow may be encrypted in one lane for the session of another; then the
// answers have moved the flow. Only what begins is moved: a flow of which nothing is remembered,
// because another has taken its slot, stays where it is.
//
// It takes no lock. Flows that share a slot forget each other's lane.
type Flows struct {
	lanes uint32
	next  atomic.Uint32            // counts flows that were assigned
	slots [flowSlots]atomic.Uint32 // 24 bits of the flow, and the lane plus 1; 0: free
}

// flowSlots is the number of flows remembered: 32 KiB, for some thousand that are active at a time.
const (
	flowBits  = 13
	flowSlots = 1 << flowBits
)

// NewFlows returns the memory of a tunnel with this number of lanes, which is at least one and at
// most 255.
func NewFlows(lanes int) *Flows { return &Flows{lanes: uint32(lanes)} }

// lane returns the lane in which a packet leaves that the given lane has read.
func (f *Flows) lane(packet []byte, link offload.Link, here int) int {
	flow := offload.Flow(packet, link)
	slot := &f.slots[flow>>(64-flowBits)] // the high bits depend on everything
	tag := uint32(flow>>(64-flowBits-24)) << 8
	v := slot.Load()
	if v&0xff != 0 && v&^0xff == tag {
		return int(v&0xff) - 1
	}
	if stage := offload.FlowStage(packet, link); stage == offload.Opening || stage == offload.AnyStage && v == 0 {
		here = int(f.next.Add(1) % f.lanes)
	}
	slot.Store(tag | uint32(here+1))
	return here
}

package lane

import (
	"tund/internal/boottime"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// Bounds of the look-ahead.
const (
	// backlogSlots is how many superpackets are read ahead of the one being sent: 2 MB. What does not fit stays in the
	// device's ring.
	backlogSlots = 32
	// sparseBytes is the size below which a packet does not wait for the superpackets read before it.
	sparseBytes = 2048
)

// backlog is what was read from the device and not sent yet: superpackets, oldest first.
//
// The device's ring is first in, first out, and a TCP flow may keep megabytes in it, which a packet of anybody else
// would have to wait for: milliseconds. So the loop reads ahead, and lets small packets pass the superpackets of
// other flows. Packets of one flow are never reordered: a packet whose flow is in the backlog waits behind it.
//
// The zero value is empty; slots are allocated when first needed. It belongs to one loop.
type backlog struct {
	slots [backlogSlots]queued
	first int // index of the oldest
	count int
}

// queued is a packet in the backlog.
type queued struct {
	mem   []byte // Headroom, then room for the largest read
	n     int    // bytes read, behind Headroom
	flow  uint64
	since boottime.Time
}

// read returns what was read into the slot, its virtio header included.
func (q *queued) read() []byte { return q.mem[Headroom : Headroom+q.n] }

// free returns the next free slot to read into, or nil when the backlog is full. The slot is not taken before push.
func (b *backlog) free() *queued {
	if b.count == backlogSlots {
		return nil
	}
	q := &b.slots[(b.first+b.count)%backlogSlots]
	if q.mem == nil {
		q.mem = make([]byte, Headroom+tundev.MaxRead, Headroom+tundev.MaxRead+offload.MaxPadding)
	}
	return q
}

// push takes the slot that free returned.
func (b *backlog) push() { b.count++ }

// pop returns the oldest packet, or nil. It is valid until the next call of free.
func (b *backlog) pop() *queued {
	if b.count == 0 {
		return nil
	}
	q := &b.slots[b.first]
	b.first = (b.first + 1) % backlogSlots
	b.count--
	return q
}

// holds reports whether a packet of the flow waits.
func (b *backlog) holds(flow uint64) bool {
	for i := range b.count {
		if b.slots[(b.first+i)%backlogSlots].flow == flow {
			return true
		}
	}
	return false
}

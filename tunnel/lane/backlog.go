package lane

import (
	"tund/internal/boottime"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// Bounds of the look-ahead.
const (
	// backlogSlots is how many superpackets are read ahead of the one being sent: 2 MB. The rest
	// stays in the device's ring.
	backlogSlots = 32
	// sparseBytes is the size below which a packet may overtake superpackets that were read before
	// it.
	sparseBytes = 2048
)

// backlog holds what was read from the device and not sent yet: superpackets, oldest first.
//
// The device's ring is first in, first out, and a TCP flow may keep megabytes in it, behind which
// any other packet would wait for milliseconds. Therefore the loop reads ahead and lets small
// packets pass the superpackets of other flows. Superpackets of different flows take turns, each
// with one superpacket or a part of it, so that neither many superpackets of a flow nor many
// segments of one superpacket delay the others. Packets of one flow are never reordered: a packet
// whose flow is in the backlog waits behind it.
//
// The zero value is empty; slots are allocated when first needed. It belongs to one loop.
type backlog struct {
	slots [backlogSlots]queued
	first int // index of the oldest
	count int
	round uint64 // round of the last turn
}

// queued is a packet in the backlog.
type queued struct {
	room  []byte // Headroom, then space for the largest read
	mem   []byte // part of room that begins with Headroom, followed by what is still to be sent
	n     int    // bytes still to be sent, behind Headroom
	flow  uint64
	since boottime.Time
	round uint64 // round in which its flow has its next turn; equal in all packets of a flow
}

// read returns what was read into the slot, including its virtio header.
func (q *queued) read() []byte { return q.mem[Headroom : Headroom+q.n] }

// at returns the i-th oldest packet, counted from 0.
func (b *backlog) at(i int) *queued { return &b.slots[(b.first+i)%backlogSlots] }

// free returns the next free slot to read into, or nil if the backlog is full. The slot is not
// occupied before push.
func (b *backlog) free() *queued {
	if b.count == backlogSlots {
		return nil
	}
	q := b.at(b.count)
	if q.room == nil {
		q.room = make([]byte, Headroom+tundev.MaxRead, Headroom+tundev.MaxRead+offload.MaxPadding)
	}
	q.mem = q.room
	return q
}

// push occupies the slot that free returned.
func (b *backlog) push() {
	q := b.at(b.count)
	q.round = b.round + 1 // behind those that have waited; many new flows would delay them
	for i := range b.count {
		if o := b.at(i); o.flow == q.flow {
			q.round = o.round
			break
		}
	}
	b.count++
}

// turn chooses what is sent next: the oldest packet among the flows whose turn is in the earliest
// round. The packet stays in its place, and done or more must follow. turn returns nil if the
// backlog is empty.
func (b *backlog) turn() (q *queued, index int) {
	for i := range b.count {
		if o := b.at(i); q == nil || o.round < q.round {
			q, index = o, i
		}
	}
	if q != nil {
		b.round = q.round
		for i := range b.count {
			if o := b.at(i); o.flow == q.flow {
				o.round++
			}
		}
	}
	return q, index
}

// done removes a packet that was sent.
func (b *backlog) done(index int) {
	sent := *b.at(index)
	for i := index; i > 0; i-- {
		*b.at(i) = *b.at(i - 1)
	}
	*b.at(0) = sent // keeps its memory for reuse
	b.first = (b.first + 1) % backlogSlots
	b.count--
}

// more leaves a packet in its place after the first skip bytes of its payload were sent.
func (b *backlog) more(index, skip int) {
	q := b.at(index)
	q.mem, q.n = q.mem[skip:], q.n-skip
}

// holds reports whether a packet of the flow waits.
func (b *backlog) holds(flow uint64) bool {
	for i := range b.count {
		if b.at(i).flow == flow {
			return true
		}
	}
	return false
}

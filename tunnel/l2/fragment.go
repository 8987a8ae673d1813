package l2

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Cut returns where to cut a frame of length bytes in two, so that each part together with its
// FragmentHeaderLen fits into a payload of at most limit bytes. ok is false if two payloads are not
// enough, if the frame need not be cut, and if it is longer than the fragment header can express.
//
// The parts have equal length, or the first has one byte more if length is odd: datagrams of equal
// length can be sent in one UDP_SEGMENT batch, a full one and a short one cannot. A sender may pad
// the second part to the length of the first.
func Cut(length, limit int) (cut int, ok bool) {
	if length+FrameHeaderLen <= limit {
		return 0, false
	}
	cut = (length + 1) / 2
	return cut, cut > 0 && cut < length && cut <= maxCut && length <= 0xffff && cut+FragmentHeaderLen <= limit
}

// FragmentIDs numbers the fragmented frames sent to one peer. The zero value is ready to use. It is
// safe for concurrent use and shared by all lanes, so that no two frames in flight have the same
// number.
type FragmentIDs struct{ n atomic.Uint32 }

// Reserve allocates n consecutive numbers and returns the first. They wrap around at 65,536.
func (f *FragmentIDs) Reserve(n int) uint16 { return uint16(f.n.Add(uint32(n)) - uint32(n)) }

// Bounds of reassembly. Both parts of a frame are sent back to back: a part whose counterpart has
// not arrived after this many frames or this much time will not be completed.
const (
	partSlots   = 32                     // parts kept per peer
	partTimeout = 500 * time.Millisecond // longer than any reordering between two sites
)

// Reassembler reassembles frames that were cut in two. It belongs to one lane and is not safe for
// concurrent use.
//
// It keeps at most partSlots parts per peer, each in the slot given by the number of its frame; a
// newer frame displaces an older one from the slot. Memory is bounded by ports × partSlots ×
// maxFrame and is allocated on first use.
//
// A port id may be reused after its peer was removed. Parts belong to the port as it was when they
// arrived, so parts from two peers that had the same id are never combined.
type Reassembler struct {
	maxFrame int
	sw       *Switch
	ports    map[PortID]*portParts
	lost     Lost
}

// portParts holds the parts kept for one port while its state in the switch is the same.
type portParts struct {
	owner *portState
	slots [partSlots]part
}

// Lost counts parts that were given up, for the caller to add to its drop counters.
type Lost struct {
	Full uint64 // displaced by a newer frame within partTimeout: drop.ReassemblyFull
	Old  uint64 // the other part did not arrive in time: drop.ReassemblyLost
}

// part is a slot for one part of a frame.
type part struct {
	used   bool
	second bool // which part is stored
	id     uint16
	length uint16
	cut    uint16
	at     boottime.Time
	buf    []byte // maxFrame bytes; the part is stored at its offset in the frame
}

// NewReassembler returns a Reassembler for frames of at most maxFrame bytes, headers included,
// received at ports of sw. If sw is nil there is no switch, and ports are never removed.
func NewReassembler(maxFrame int, sw *Switch) *Reassembler {
	return &Reassembler{maxFrame: maxFrame, sw: sw, ports: make(map[PortID]*portParts)}
}

// owner returns the state of a port; ok is false if there is no such port.
func (r *Reassembler) owner(id PortID) (owner *portState, ok bool) {
	if r.sw == nil {
		return nil, true
	}
	p := r.sw.view.Load().port(id)
	if p == nil {
		return nil, false
	}
	return p.state, true
}

// Add takes a part received from the peer at port from, as returned by ParseFrame (h.Fragment is
// set), and returns the frame once both parts have arrived. body is copied; the frame is valid
// until the next call. Otherwise frame is nil and reason tells why: drop.None while the other part
// is awaited; drop.OversizeFrame; drop.NotEthernetPeer if there is no such port; or
// drop.ReassemblyBad for a part that contradicts the one already stored (which is kept).
func (r *Reassembler) Add(now boottime.Time, from PortID, h *FrameHeader, body []byte) (frame []byte, reason drop.Reason) {
	if h.Length > r.maxFrame {
		return nil, drop.OversizeFrame
	}
	owner, ok := r.owner(from)
	if !ok {
		return nil, drop.NotEthernetPeer
	}
	kept := r.ports[from]
	if kept == nil || kept.owner != owner {
		kept = &portParts{owner: owner}
		r.ports[from] = kept
	}
	p := &kept.slots[h.ID%partSlots]
	if p.used && (p.id != h.ID || now.Sub(p.at) > partTimeout) {
		r.giveUp(p, now)
	}
	if p.used && (int(p.length) != h.Length || int(p.cut) != h.Cut || p.second == h.Second) {
		return nil, drop.ReassemblyBad
	}
	if p.buf == nil {
		p.buf = make([]byte, r.maxFrame)
	}
	at := 0
	if h.Second {
		at = h.Cut
	}
	copy(p.buf[at:h.Length], body)
	if p.used {
		p.used = false
		return p.buf[:h.Length], drop.None
	}
	p.used, p.second, p.id, p.at = true, h.Second, h.ID, now
	p.length, p.cut = uint16(h.Length), uint16(h.Cut)
	return nil, drop.None
}

func (r *Reassembler) giveUp(p *part, now boottime.Time) {
	p.used = false
	if now.Sub(p.at) > partTimeout {
		r.lost.Old++
	} else {
		r.lost.Full++
	}
}

// TakeLost discards parts that have waited too long, frees the memory of removed ports, and returns
// how many parts were given up since the last call. Call it about once a second.
func (r *Reassembler) TakeLost(now boottime.Time) Lost {
	for id, kept := range r.ports {
		if owner, ok := r.owner(id); !ok || owner != kept.owner {
			delete(r.ports, id)
			continue
		}
		for i := range kept.slots {
			if p := &kept.slots[i]; p.used && now.Sub(p.at) > partTimeout {
				r.giveUp(p, now)
			}
		}
	}
	lost := r.lost
	r.lost = Lost{}
	return lost
}

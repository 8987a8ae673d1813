package l2

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Cut returns where to cut a frame of length bytes so that both parts, each behind its
// FragmentHeaderLen, fit into payloads of at most limit bytes; 0 when two payloads are not enough.
// ok is false for that, and for a frame that needs no cut or is longer than a cut can say.
//
// The parts are equally long, the first by one byte longer when the length is odd: equal datagrams
// travel in one UDP_SEGMENT run, a full and a short one do not. A sender may pad the second part to
// the length of the first.
func Cut(length, limit int) (cut int, ok bool) {
	if length+FrameHeaderLen <= limit {
		return 0, false
	}
	cut = (length + 1) / 2
	return cut, cut > 0 && cut < length && cut <= maxCut && length <= 0xffff && cut+FragmentHeaderLen <= limit
}

// FragmentIDs numbers the cut frames sent to one peer. The zero value is ready; safe for concurrent
// use, and shared by all lanes, so that no two frames under way have the same number.
type FragmentIDs struct{ n atomic.Uint32 }

// Reserve takes n consecutive numbers and returns the first; they wrap at 65,536.
func (f *FragmentIDs) Reserve(n int) uint16 { return uint16(f.n.Add(uint32(n)) - uint32(n)) }

// Bounds of reassembly. The two parts leave back to back: what has not met its other half after
// that many frames or that long has lost it.
const (
	partSlots   = 32                     // half frames kept for one peer
	partTimeout = 500 * time.Millisecond // longer than any reordering between two sites
)

// Reassembler joins frames that were cut in two. It belongs to one lane loop and is not safe for
// concurrent use.
//
// For each peer it keeps at most partSlots half frames, at the place that the number of the frame
// gives: a newer frame pushes out the one that stands there. Memory is bounded by ports × partSlots
// × maxFrame and taken when first needed.
//
// A port id is used again after its peer was removed. What is kept belongs to the port as it was,
// so halves of two peers that have had one id never meet.
type Reassembler struct {
	maxFrame int
	sw       *Switch
	ports    map[PortID]*portParts
	lost     Lost
}

// portParts is what is kept for one port, as long as its state in the switch is the same.
type portParts struct {
	owner *portState
	slots [partSlots]part
}

// Lost counts half frames given up, for the caller to add to its drop counters.
type Lost struct {
	Full uint64 // pushed out by a newer frame within partTimeout: drop.ReassemblyFull
	Old  uint64 // their other half did not come: drop.ReassemblyLost
}

// part is a place for half a frame.
type part struct {
	used   bool
	second bool // which half is here
	id     uint16
	length uint16
	cut    uint16
	at     boottime.Time
	buf    []byte // of maxFrame bytes; the half lies where it belongs
}

// NewReassembler returns a Reassembler for frames of at most maxFrame bytes, headers included, that
// come from ports of sw. With nil there is no switch, and ports are never removed.
func NewReassembler(maxFrame int, sw *Switch) *Reassembler {
	return &Reassembler{maxFrame: maxFrame, sw: sw, ports: make(map[PortID]*portParts)}
}

// owner returns the state of a port; ok is false when there is no such port.
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

// Add takes a part from the peer at port from, as ParseFrame returned it (h.Fragment is set), and
// returns the frame once both halves are there. The frame is valid until the next call. Otherwise
// frame is nil and reason says why: drop.None, the other half is awaited; drop.OversizeFrame;
// drop.NotEthernetPeer, there is no such port; or drop.ReassemblyBad, a half that contradicts the
// one that waits (which stays).
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

// TakeLost gives up what has waited too long, frees what was kept for ports that were removed, and
// returns what was given up since the last call. To be called about once a second.
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

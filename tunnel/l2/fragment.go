package l2

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// Cut returns where to cut a frame of length bytes so that both parts, each behind its FragmentHeaderLen, fit into
// payloads of at most limit bytes; 0 when two payloads are not enough. ok is false for that, and for a frame that
// needs no cut or is longer than a cut can say.
//
// The parts are equally long, the first by one byte longer when the length is odd: equal datagrams travel in one
// UDP_SEGMENT run, a full and a short one do not. A sender may pad the second part to the length of the first.
func Cut(length, limit int) (cut int, ok bool) {
	if length+FrameHeaderLen <= limit {
		return 0, false
	}
	cut = (length + 1) / 2
	return cut, cut > 0 && cut < length && cut <= maxCut && length <= 0xffff && cut+FragmentHeaderLen <= limit
}

// FragmentIDs numbers the cut frames sent to one peer. The zero value is ready; safe for concurrent use, and
// shared by all lanes, so that no two frames under way have the same number.
type FragmentIDs struct{ n atomic.Uint32 }

// Reserve takes n consecutive numbers and returns the first; they wrap at 65,536.
func (f *FragmentIDs) Reserve(n int) uint16 { return uint16(f.n.Add(uint32(n)) - uint32(n)) }

// Bounds of reassembly. The two parts leave back to back: what has not met its other half after that many
// frames or that long has lost it.
const (
	partSlots   = 32                     // half frames kept for one peer
	partTimeout = 500 * time.Millisecond // longer than any reordering between two sites
)

// Reassembler joins frames that were cut in two. It belongs to one lane loop and is not safe for concurrent use.
//
// For each peer it keeps at most partSlots half frames, at the place that the number of the frame gives: a
// newer frame pushes out the one that stands there. Memory is bounded by ports × partSlots × maxFrame and taken
// when first needed.
type Reassembler struct {
	maxFrame int
	ports    map[PortID]*[partSlots]part
	lost     Lost
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

// NewReassembler returns a Reassembler for frames of at most maxFrame bytes, headers included.
func NewReassembler(maxFrame int) *Reassembler {
	return &Reassembler{maxFrame: maxFrame, ports: make(map[PortID]*[partSlots]part)}
}

// Add takes a part from the peer at port from, as ParseFrame returned it (h.Fragment is set), and returns the frame once both
// halves are there. The frame is valid until the next call. Otherwise frame is nil and reason says why: drop.None, the
// other half is awaited; drop.OversizeFrame; or drop.ReassemblyBad, a half that contradicts the one that waits (which stays).
func (r *Reassembler) Add(now boottime.Time, from PortID, h *FrameHeader, body []byte) (frame []byte, reason drop.Reason) {
	if h.Length > r.maxFrame {
		return nil, drop.OversizeFrame
	}
	slots := r.ports[from]
	if slots == nil {
		slots = new([partSlots]part)
		r.ports[from] = slots
	}
	p := &slots[h.ID%partSlots]
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

// TakeLost gives up what has waited too long and returns what was given up since the last call. To be called about once a second.
func (r *Reassembler) TakeLost(now boottime.Time) Lost {
	for _, slots := range r.ports {
		for i := range slots {
			if p := &slots[i]; p.used && now.Sub(p.at) > partTimeout {
				r.giveUp(p, now)
			}
		}
	}
	lost := r.lost
	r.lost = Lost{}
	return lost
}

// Forget frees what is kept for a port that was removed.
func (r *Reassembler) Forget(id PortID) { delete(r.ports, id) }

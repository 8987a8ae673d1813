// Package replay distinguishes new counters from counters that were seen before, by a sliding
// window, so that datagrams may arrive out of order and none is delivered twice.
//
// It authenticates nothing: mark a counter only after its datagram has been authenticated, or
// anybody could move the window. It takes no locks.
//
// Source: RFC 6479. The bitmap is a ring of 64-bit blocks; moving forward clears whole blocks
// instead of shifting bits, and therefore one block of the ring is always in use by the newest
// counters.
package replay

import (
	"errors"
	"slices"
)

const (
	blockBits = 64
	ringBits  = 8192 // the kernel's COUNTER_BITS_TOTAL (drivers/net/wireguard/messages.h)
	blocks    = ringBits / blockBits

	// Size is how far a counter may lie behind the greatest one accepted: 8128. RFC 6479 §2.
	Size = ringBits - blockBits

	// Limit is the first counter that is never accepted. The whitepaper (§6.1,
	// Reject-After-Messages) has 2^64-2^13-1; the kernel has 2^64-8130, which is greater. The
	// smaller one satisfies both.
	Limit = 1<<64 - 1<<13 - 1
)

// Window remembers which counters of one session were accepted. The zero Window has seen none and
// is ready for use. It is not safe for concurrent use.
//
// Its kilobyte of memory is allocated with the first counter that is not among the first 64. Of
// very many sessions most carry a few keepalives and are then replaced.
type Window struct {
	highest uint64          // greatest counter accepted; 0 also before the first
	first   uint64          // block 0, as long as it is the only one
	ring    *[blocks]uint64 // all blocks; nil: first is the only one
}

// Accept reports whether the counter is new, and marks it as seen. A counter is not new when it was
// accepted before, lies more than Size behind the greatest one, or has reached Limit.
func (w *Window) Accept(counter uint64) bool {
	if counter >= Limit {
		return false
	}
	ring := w.ring
	if ring == nil {
		if counter < blockBits {
			w.highest = max(w.highest, counter)
			return mark(&w.first, counter)
		}
		ring = w.grow()
	}
	block := counter / blockBits
	if counter > w.highest {
		current := w.highest / blockBits
		for range min(block-current, blocks) {
			current++
			ring[current%blocks] = 0
		}
		w.highest = counter
	} else if w.highest-counter > Size {
		return false
	}
	return mark(&ring[block%blocks], counter)
}

// mark marks a counter in its block as seen, and reports whether it was not.
func mark(block *uint64, counter uint64) (fresh bool) {
	bit := uint64(1) << (counter % blockBits)
	fresh = *block&bit == 0
	*block |= bit
	return fresh
}

// grow allocates the ring. It is a function of its own so that Accept remains small.
//
//go:noinline
func (w *Window) grow() *[blocks]uint64 {
	w.ring = &[blocks]uint64{w.first}
	return w.ring
}

// Highest returns the greatest counter accepted, 0 when there was none.
func (w *Window) Highest() uint64 { return w.highest }

// Saved is a Window in a form in which another process can continue it.
type Saved struct {
	Highest uint64
	Ring    []uint64
}

// Save returns the window's contents.
func (w *Window) Save() Saved {
	ring := [blocks]uint64{w.first}
	if w.ring != nil {
		ring = *w.ring
	}
	return Saved{Highest: w.highest, Ring: slices.Clone(ring[:])}
}

// Restore makes w what Save was called for. It refuses contents of another size.
func (w *Window) Restore(s Saved) error {
	if len(s.Ring) != blocks || s.Highest >= Limit {
		return errors.New("replay window is of another form")
	}
	w.highest, w.first, w.ring = s.Highest, s.Ring[0], nil
	if s.Highest >= blockBits {
		w.ring = (*[blocks]uint64)(slices.Clone(s.Ring))
	}
	return nil
}

package tunnel

import (
	"sync"
	"sync/atomic"

	"tund/internal/drop"
)

// Bounds of what waits for sessions.
const (
	// maxStaged is the number of packets that wait for one peer's session, as in the kernel (MAX_STAGED_PACKETS).
	maxStaged = 128
	// maxStagedBytes bounds what waits for all peers together, so that 10,000 unreachable peers cannot hold
	// 10,000 × 128 packets.
	maxStagedBytes = 16 << 20
)

// stage holds padded plaintexts of one peer, oldest first, until it has a session.
type stage struct {
	count atomic.Int32 // lanes look at it without the lock

	mu      sync.Mutex // guards packets; held while they are sent, so that later ones of a flow stay behind
	packets [][]byte
	closed  bool // the peer was removed: nothing is kept any more
}

// stageBudget is what all stages share.
type stageBudget struct{ bytes atomic.Int64 }

// put keeps a copy of plaintext, pushing out the oldest packet when the stage is full.
// It returns how many packets were lost.
func (s *stage) put(plaintext []byte, budget *stageBudget) (lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 1
	}
	for len(s.packets) >= maxStaged {
		s.pop(budget)
		lost++
	}
	if budget.bytes.Add(int64(len(plaintext))) > maxStagedBytes {
		budget.bytes.Add(-int64(len(plaintext)))
		s.publish()
		return lost + 1
	}
	s.packets = append(s.packets, append([]byte(nil), plaintext...))
	s.publish()
	return lost
}

// publish tells the lanes how many packets wait. Callers hold mu.
func (s *stage) publish() { s.count.Store(int32(len(s.packets))) }

// pop removes the oldest packet; the caller publishes the new count. Callers hold mu.
func (s *stage) pop(budget *stageBudget) []byte {
	p := s.packets[0]
	s.packets[0] = nil
	s.packets = s.packets[1:]
	budget.bytes.Add(-int64(len(p)))
	if len(s.packets) == 0 {
		s.packets = nil
	}
	return p
}

// close drops everything, counts it under r, and keeps nothing from now on.
func (s *stage) close(budget *stageBudget, drops *drop.Counters, r drop.Reason) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.purge(budget, drops, r)
}

// purge drops everything and counts it under r.
func (s *stage) purge(budget *stageBudget, drops *drop.Counters, r drop.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.packets) > 0 {
		s.pop(budget)
		drops.Add(r, 1)
	}
	s.publish()
}

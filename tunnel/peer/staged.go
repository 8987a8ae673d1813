package peer

import (
	"sync"
	"sync/atomic"
)

// Bounds on what waits for sessions.
const (
	// MaxStaged is the number of packets that wait for one peer's session, as in the kernel
	// (MAX_STAGED_PACKETS).
	MaxStaged = 128
	// MaxStagedBytes bounds the packets that wait for all peers together, so that 10,000
	// unreachable peers cannot hold 10,000 × 128 packets.
	MaxStagedBytes = 16 << 20
)

// Staged holds the padded plaintexts of one peer, oldest first, until it has a session. The zero
// Staged is empty. It is safe for concurrent use; no caller waits for another one's send.
type Staged struct {
	count atomic.Int32 // waiting, or taken and not sent yet; lanes read it without the lock

	mu     sync.Mutex // guards what follows; never held while sending
	taken  bool       // somebody has taken packets and not sent them yet
	closed bool       // the peer was removed: nothing is kept any longer
	queue  *queue     // nil: it is empty
}

// queue holds packets, oldest first. There is one only while packets wait, because few of many
// peers have any.
type queue struct{ packets [][]byte }

// Budget is shared by all Staged of a tunnel. The zero Budget is ready to use.
type Budget struct{ bytes atomic.Int64 }

// Bytes returns how many bytes wait.
func (b *Budget) Bytes() int64 { return b.bytes.Load() }

// Len returns how many packets wait, including those that are being sent at this moment. While it
// is not zero, a packet that must not overtake them has to be put behind them.
func (s *Staged) Len() int { return int(s.count.Load()) }

// Put keeps a copy of plaintext, displacing the oldest packet if there are MaxStaged. It returns
// how many packets were lost.
func (s *Staged) Put(plaintext []byte, budget *Budget) (lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 1
	}
	for s.queue != nil && len(s.queue.packets) >= MaxStaged {
		s.pop(budget)
		s.count.Add(-1)
		lost++
	}
	if budget.bytes.Add(int64(len(plaintext))) > MaxStagedBytes {
		budget.bytes.Add(-int64(len(plaintext)))
		return lost + 1
	}
	if s.queue == nil {
		s.queue = new(queue)
	}
	s.queue.packets = append(s.queue.packets, append([]byte(nil), plaintext...))
	s.count.Add(1)
	return lost
}

// Take removes everything that waits, oldest first, for a caller that sends it at once and then
// calls Done. It returns nil if nothing waits, or if another caller has taken packets and not
// finished: packets put meanwhile stay behind those.
func (s *Staged) Take(budget *Budget) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken || s.queue == nil {
		return nil
	}
	s.taken = true
	packets := s.queue.packets
	s.queue = nil
	for _, p := range packets {
		budget.bytes.Add(-int64(len(p)))
	}
	return packets
}

// Done ends a Take: the first sent packets have been handed to the socket, and rest, the newest
// ones, continue to wait.
func (s *Staged) Done(sent int, rest [][]byte, budget *Budget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = false
	if s.closed {
		sent, rest = sent+len(rest), nil
	}
	for _, p := range rest {
		budget.bytes.Add(int64(len(p)))
	}
	if len(rest) > 0 {
		if s.queue != nil {
			rest = append(rest, s.queue.packets...)
		}
		s.queue = &queue{rest}
	}
	s.count.Add(-int32(sent)) // only now: until then a lane that looks has to stay behind them
}

// pop removes the oldest packet, which there is; the caller adjusts the count. Callers hold mu.
func (s *Staged) pop(budget *Budget) {
	q := s.queue
	budget.bytes.Add(-int64(len(q.packets[0])))
	q.packets[0] = nil
	if q.packets = q.packets[1:]; len(q.packets) == 0 {
		s.queue = nil
	}
}

// Close drops everything and keeps nothing from now on. It returns how many packets were lost.
func (s *Staged) Close(budget *Budget) (lost int) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.Purge(budget)
}

// Purge drops everything that no caller has taken, and returns how many packets were lost.
func (s *Staged) Purge(budget *Budget) (lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queue != nil {
		s.pop(budget)
		lost++
	}
	s.count.Add(-int32(lost))
	return lost
}

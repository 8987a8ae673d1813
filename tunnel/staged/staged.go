// Package staged holds the packets that wait for a session with a peer, within bounds for one peer
// and for all of them. It sends nothing and has no goroutine or clock.
package staged

import (
	"sync"
	"sync/atomic"
)

// Bounds on what waits for sessions.
const (
	// Max is the number of packets that wait for one peer's session, as in the kernel
	// (MAX_STAGED_PACKETS).
	Max = 128
	// MaxBytes bounds the packets that wait for all peers together, so that 10,000 unreachable
	// peers cannot hold 10,000 × 128 packets.
	MaxBytes = 16 << 20
)

// Queue holds the padded plaintexts of one peer, oldest first, until it has a session. The zero
// Queue is empty. It is safe for concurrent use; no caller waits for another one's send.
type Queue struct {
	count atomic.Int32 // waiting, or taken and not sent yet; lanes read it without the lock

	mu     sync.Mutex // guards what follows; never held while sending
	taken  bool       // somebody has taken packets and not sent them yet
	closed bool       // the peer was removed: nothing is kept any longer
	list   *list      // nil: it is empty
}

// list holds packets, oldest first. There is one only while packets wait, because few of many peers
// have any.
type list struct{ packets [][]byte }

// Budget is shared by all queues of a tunnel. The zero Budget is ready to use.
type Budget struct{ bytes atomic.Int64 }

// Bytes returns how many bytes wait.
func (b *Budget) Bytes() int64 { return b.bytes.Load() }

// Len returns how many packets wait, including those that are being sent at this moment. While it
// is not zero, a packet that must not overtake them has to be put behind them.
func (q *Queue) Len() int { return int(q.count.Load()) }

// Put keeps a copy of plaintext, displacing the oldest packet if there are Max. It returns how many
// packets were lost.
func (q *Queue) Put(plaintext []byte, budget *Budget) (lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 1
	}
	for q.list != nil && len(q.list.packets) >= Max {
		q.pop(budget)
		q.count.Add(-1)
		lost++
	}
	if budget.bytes.Add(int64(len(plaintext))) > MaxBytes {
		budget.bytes.Add(-int64(len(plaintext)))
		return lost + 1
	}
	if q.list == nil {
		q.list = new(list)
	}
	q.list.packets = append(q.list.packets, append([]byte(nil), plaintext...))
	q.count.Add(1)
	return lost
}

// Take removes everything that waits, oldest first, for a caller that sends it at once and then
// calls Done. It returns nil if nothing waits, or if another caller has taken packets and not
// finished: packets put meanwhile stay behind those.
func (q *Queue) Take(budget *Budget) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken || q.list == nil {
		return nil
	}
	q.taken = true
	packets := q.list.packets
	q.list = nil
	for _, p := range packets {
		budget.bytes.Add(-int64(len(p)))
	}
	return packets
}

// Done ends a Take: the first sent packets have been handed to the socket, and rest, the newest
// ones, continue to wait.
func (q *Queue) Done(sent int, rest [][]byte, budget *Budget) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken = false
	if q.closed {
		sent, rest = sent+len(rest), nil
	}
	for _, p := range rest {
		budget.bytes.Add(int64(len(p)))
	}
	if len(rest) > 0 {
		if q.list != nil {
			rest = append(rest, q.list.packets...)
		}
		q.list = &list{rest}
	}
	q.count.Add(-int32(sent)) // only now: until then a lane that looks has to stay behind them
}

// pop removes the oldest packet, which there is; the caller adjusts the count. Callers hold mu.
func (q *Queue) pop(budget *Budget) {
	l := q.list
	budget.bytes.Add(-int64(len(l.packets[0])))
	l.packets[0] = nil
	if l.packets = l.packets[1:]; len(l.packets) == 0 {
		q.list = nil
	}
}

// Close drops everything and keeps nothing from now on. It returns how many packets were lost.
func (q *Queue) Close(budget *Budget) (lost int) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.Purge(budget)
}

// Purge drops everything that no caller has taken, and returns how many packets were lost.
func (q *Queue) Purge(budget *Budget) (lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.list != nil {
		q.pop(budget)
		lost++
	}
	q.count.Add(-int32(lost))
	return lost
}

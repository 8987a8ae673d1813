package timers

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"

	"tund/internal/boottime"
)

// Deadline is what a Heap knows about one owner: when it is to be handled. It is a field of its
// owner, to which it points. The zero Deadline is not armed.
type Deadline[T any] struct {
	Owner *T // constant

	at     atomic.Int64 // 0: not armed; written with Heap.mu held
	pos    int32        // position in the heap plus one, 0 when not in it; guarded by Heap.mu
	closed bool         // never armed again; guarded by Heap.mu
}

// Heap finds the owner whose deadline is next. It is safe for concurrent use.
//
// A deadline is armed once. An event moves it only if the new one is earlier; a later one is found
// when the old one fires and the timers are asked again. Traffic therefore touches the heap only
// about once in ten seconds per peer.
type Heap[T any] struct {
	mu      sync.Mutex // guards the order, and all of Deadline but Owner
	order   order[T]
	earlier func()
}

// NewHeap returns an empty heap. earlier is called, without a lock, when the earliest deadline has
// moved forward; it must not block.
func NewHeap[T any](earlier func()) *Heap[T] { return &Heap[T]{earlier: earlier} }

// Arm makes sure that the owner of d is handled no later than at.
func (h *Heap[T]) Arm(d *Deadline[T], at boottime.Time) {
	if armed := d.at.Load(); armed != 0 && armed <= int64(at) {
		return
	}
	h.arm(d, at)
}

func (h *Heap[T]) arm(d *Deadline[T], at boottime.Time) {
	h.mu.Lock()
	if armed := d.at.Load(); armed != 0 && armed <= int64(at) || d.closed {
		h.mu.Unlock()
		return
	}
	d.at.Store(int64(at))
	if d.pos > 0 {
		heap.Fix(&h.order, int(d.pos)-1)
	} else {
		heap.Push(&h.order, d)
	}
	first := h.order[0] == d
	h.mu.Unlock()
	if first {
		h.earlier()
	}
}

// Wake calls earlier, for whoever knows that something is due now: one that waits for the next
// deadline by a timer of Go has stood still with it while the machine was suspended (maxSleep).
func (h *Heap[T]) Wake() { h.earlier() }

// Remove removes d permanently.
func (h *Heap[T]) Remove(d *Deadline[T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.closed = true
	if d.pos > 0 {
		heap.Remove(&h.order, int(d.pos)-1)
		d.at.Store(0)
	}
}

// Next removes and returns an owner whose deadline has come. If there is none, it returns nil and
// how long to sleep, at most maxSleep.
func (h *Heap[T]) Next(now boottime.Time) (owner *T, sleep time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.order) == 0 {
		return nil, noDeadline
	}
	if wait := boottime.Time(h.order[0].at.Load()).Sub(now); wait > 0 {
		return nil, min(wait, maxSleep)
	}
	d := heap.Pop(&h.order).(*Deadline[T])
	d.at.Store(0)
	return d.Owner, 0
}

// Len returns the number of deadlines that are armed.
func (h *Heap[T]) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.order)
}

// Bounds on one sleep between two deadlines.
const (
	// maxSleep applies if there are deadlines: Go's timers stand still while the machine is
	// suspended, but keys continue to age, so the real clock has to be read soon after a resume.
	maxSleep = 5 * time.Second
	// noDeadline applies if there are none.
	noDeadline = time.Hour
)

// order sorts deadlines by at (container/heap).
type order[T any] []*Deadline[T]

func (o order[T]) Len() int           { return len(o) }
func (o order[T]) Less(i, j int) bool { return o[i].at.Load() < o[j].at.Load() }
func (o order[T]) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].pos, o[j].pos = int32(i)+1, int32(j)+1
}

func (o *order[T]) Push(x any) {
	d := x.(*Deadline[T])
	d.pos = int32(len(*o)) + 1
	*o = append(*o, d)
}

func (o *order[T]) Pop() any {
	old := *o
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*o = old[:len(old)-1]
	d.pos = 0
	return d
}

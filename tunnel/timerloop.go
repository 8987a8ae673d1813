package tunnel

import (
	"container/heap"
	"sync"
	"time"

	"tund/internal/boottime"
)

// maxSleep bounds one sleep of the timer loop. Go's timers stand still while the machine sleeps and keys do not,
// so after a suspend the loop must look at the real clock again soon.
const maxSleep = 5 * time.Second

// timerLoop is the one timer structure of a tunnel: a heap of the earliest deadline of each peer that has one.
//
// A deadline is armed once. An event moves it only when the new one is earlier; a later one is found when the
// old one fires and Next is asked again. So traffic touches the heap about once in ten seconds per peer.
type timerLoop struct {
	mu   sync.Mutex // guards heap, Peer.heapAt and writes of Peer.armed; never held while a timer's work is done
	heap peerHeap
	wake chan struct{} // capacity 1: the earliest deadline moved forward

	pulse *pulse
}

func newTimerLoop(p *pulse) *timerLoop { return &timerLoop{wake: make(chan struct{}, 1), pulse: p} }

// arm makes sure that p is looked at no later than at.
func (l *timerLoop) arm(p *Peer, at boottime.Time) {
	if armed := p.armed.Load(); armed != 0 && armed <= int64(at) {
		return
	}
	l.mu.Lock()
	if armed := p.armed.Load(); (armed != 0 && armed <= int64(at)) || p.removed.Load() {
		l.mu.Unlock()
		return
	}
	p.armed.Store(int64(at))
	if p.heapAt >= 0 {
		heap.Fix(&l.heap, p.heapAt)
	} else {
		heap.Push(&l.heap, p)
	}
	first := l.heap[0] == p
	l.mu.Unlock()
	if first {
		l.kick()
	}
}

func (l *timerLoop) kick() {
	select {
	case l.wake <- struct{}{}:
	default: // one wake-up is enough
	}
}

// remove forgets p. It must have been marked removed before.
func (l *timerLoop) remove(p *Peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.heapAt >= 0 {
		heap.Remove(&l.heap, p.heapAt)
		p.armed.Store(0)
	}
}

// due takes the next peer whose deadline has come; with nil it returns how long to sleep.
func (l *timerLoop) due(now boottime.Time) (*Peer, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.heap) == 0 {
		return nil, time.Hour
	}
	if wait := boottime.Time(l.heap[0].armed.Load()).Sub(now); wait > 0 {
		return nil, min(wait, maxSleep)
	}
	p := heap.Pop(&l.heap).(*Peer)
	p.armed.Store(0)
	return p, 0
}

// run looks at each peer when its deadline comes, until stop is closed.
func (l *timerLoop) run(clock Clock, stop <-chan struct{}, look func(*Peer, boottime.Time)) {
	sleep := time.NewTimer(time.Hour)
	defer sleep.Stop()
	for {
		now := clock.Now()
		p, wait := l.due(now)
		if p != nil {
			look(p, now)
			l.pulse.wake()
			wait = 0
		}
		if wait == 0 {
			select {
			case <-stop:
				return
			default:
				continue
			}
		}
		sleep.Reset(wait)
		l.pulse.rest()
		select {
		case <-stop:
			return
		case <-l.wake:
		case <-sleep.C:
		}
		l.pulse.wake()
	}
}

// peerHeap orders peers by armed (container/heap).
type peerHeap []*Peer

func (h peerHeap) Len() int           { return len(h) }
func (h peerHeap) Less(i, j int) bool { return h[i].armed.Load() < h[j].armed.Load() }
func (h peerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i, j
}

func (h *peerHeap) Push(x any) {
	p := x.(*Peer)
	p.heapAt = len(*h)
	*h = append(*h, p)
}

func (h *peerHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.heapAt = -1
	return p
}

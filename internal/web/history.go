package web

import (
	"context"
	"sync"
	"time"
)

const (
	// historyStep is the time between two samples of the traffic, and historyLength how many are
	// kept: a quarter of an hour.
	historyStep   = 5 * time.Second
	historyLength = 180
)

// history is the traffic of the last quarter of an hour.
type history struct {
	mu     sync.Mutex // guards the rest
	last   traffic
	points []rate // oldest first
}

// traffic is how many bytes have passed the devices at a time.
type traffic struct {
	at     time.Time
	rx, tx uint64
}

// rate is an average over one step, in bits per second.
type rate struct{ rx, tx float64 }

// note adds a sample. Counters that went back (a device of a new instance) count as nothing.
func (h *history) note(now traffic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.last
	h.last = now
	passed := now.at.Sub(was.at).Seconds()
	if was.at.IsZero() || passed <= 0 {
		return
	}
	if len(h.points) == historyLength {
		h.points = append(h.points[:0], h.points[1:]...)
	}
	bits := func(now, was uint64) float64 { return float64(now-min(was, now)) * 8 / passed }
	h.points = append(h.points, rate{bits(now.rx, was.rx), bits(now.tx, was.tx)})
}

// read returns the rates so far, oldest first, and when the newest ended.
func (h *history) read() (rx, tx []float64, end time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rx, tx = make([]float64, len(h.points)), make([]float64, len(h.points))
	for n, p := range h.points {
		rx[n], tx[n] = float64(int64(p.rx)), float64(int64(p.tx))
	}
	return rx, tx, h.last.at
}

// Run records the traffic until ctx ends.
func (s *Site) Run(ctx context.Context) {
	tick := time.NewTicker(historyStep)
	defer tick.Stop()
	for {
		rx, tx := s.source.Traffic()
		s.history.note(traffic{time.Now(), rx, tx})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

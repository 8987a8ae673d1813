package agent

import (
	"context"
	"time"
)

// clock notices when the time of day is set, as on a host that starts without the right time and
// hears it from a server later. By another time, other grants have begun or ended: what was passed
// over is to be looked at again, and at once.
type clock struct {
	wall, running time.Time // at the last look; zero: none yet
}

// clockStep is by how much the time of day has to differ from the time that has passed. What keeps
// a clock right without setting it changes it by less than a millisecond in a second.
const clockStep = time.Minute

// wasSet reports whether the time of day was set since the last look. A host that was suspended
// meanwhile looks the same, and has missed as much. running is a time with a monotonic reading.
func (c *clock) wasSet(wall, running time.Time) bool {
	wall = wall.Round(0)
	before := *c
	*c = clock{wall, running}
	if before.running.IsZero() {
		return false
	}
	off := wall.Sub(before.wall) - running.Sub(before.running)
	return off.Abs() > clockStep
}

// followStore takes the news of the store until ctx ends, and from the beginning whenever something
// is in again.
func (a *Agent) followStore(ctx context.Context, again <-chan struct{}) {
	for ctx.Err() == nil {
		until, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.o.Store.Run(until, func(n News) { a.in.put(until, n) })
		}()
		select {
		case <-ctx.Done():
		case <-again:
		}
		cancel()
		<-done
	}
}

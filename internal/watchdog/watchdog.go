// Package watchdog detects loops that make no progress. A loop marks when it begins to wait for
// external events and when it continues; a reader that comes back later sees whether it has moved.
// The reader decides what to do about a loop that is stuck (internal/daemon). The package starts
// nothing and has no clock.
package watchdog

import (
	"fmt"
	"sync/atomic"
)

// Progress is that of one loop. Its count grows when the loop begins to wait and when it goes on:
// odd is a loop that waits, and one that stays the same and even is stuck. Only the loop writes it.
// The zero Progress is ready.
type Progress struct{ count atomic.Uint64 }

// Idle is called before a wait that the world ends: for a packet, a message or a deadline.
func (p *Progress) Idle() { p.count.Store((p.count.Load() + 1) | 1) }

// Busy is called after a wait, and by a loop that works without one.
func (p *Progress) Busy() { p.count.Store((p.count.Load() + 2) &^ 1) }

// Beat is the progress of one loop at one moment.
type Beat struct {
	Loop  string // what it does: "receive 0", "send office 0", "timers", …
	Count uint64 // differs from that of an earlier reading when the loop has moved since
	// It waits for a packet, a message or a deadline, and nothing of ours can hold it up.
	Idle bool
}

// Stuck reports whether the loop has not moved since it was read as then, although it had something
// to do.
func (b Beat) Stuck(then Beat) bool { return b.Count == then.Count && !b.Idle && !then.Idle }

// Stuck names the loops that have not moved since they were noted in last, and notes them again.
func Stuck(beats []Beat, last map[string]Beat) (stuck []string) {
	for _, b := range beats {
		if then, known := last[b.Loop]; known && b.Stuck(then) {
			stuck = append(stuck, b.Loop)
		}
		last[b.Loop] = b
	}
	return stuck
}

// Loops are the loops of one program that are watched. The zero Loops has none. New is not called
// once Beats may be.
type Loops struct{ all []loop }

type loop struct {
	name     string
	progress *Progress
}

// New adds a loop with a name in the manner of fmt.Sprintf, and returns its progress.
func (l *Loops) New(format string, args ...any) *Progress {
	p := new(Progress)
	l.all = append(l.all, loop{fmt.Sprintf(format, args...), p})
	return p
}

// Beats reads the progress of every loop. The slice is the caller's.
func (l *Loops) Beats() []Beat {
	beats := make([]Beat, 0, len(l.all))
	for _, w := range l.all {
		count := w.progress.count.Load()
		beats = append(beats, Beat{Loop: w.name, Count: count, Idle: count%2 == 1})
	}
	return beats
}

package tunnel

import (
	"fmt"
	"sync/atomic"
)

// pulse is the progress of one loop, for a watchdog. The count grows when the loop begins to wait for the world and when
// it goes on: odd is a loop that waits, and one that stays the same and even is stuck. Only the loop writes it.
type pulse struct{ count atomic.Uint64 }

// rest is called before a wait that the world ends.
func (p *pulse) rest() { p.count.Store((p.count.Load() + 1) | 1) }

// wake is called after a wait, and by a loop that works without one.
func (p *pulse) wake() { p.count.Store((p.count.Load() + 2) &^ 1) }

// Beat is the progress of one loop of a tunnel.
type Beat struct {
	Loop  string // what it does: "receive 0", "send office 0", "timers", …
	Count uint64 // differs from that of an earlier reading when the loop has moved since
	Idle  bool   // it waits for a packet, a message or a deadline, and nothing of ours can hold it up
}

// Stuck reports whether the loop has not moved since it was read as then, although it had something to do.
func (b Beat) Stuck(then Beat) bool { return b.Count == then.Count && !b.Idle && !then.Idle }

// Pulse reads the progress of every loop. It takes the locks that loops hold while they work, so it does not return
// either when one of those is never given back. Valid after Start.
func (t *Tunnel) Pulse() []Beat {
	t.peersMu.RLock()
	defer t.peersMu.RUnlock()
	t.slow.mu.Lock()
	defer t.slow.mu.Unlock()
	t.timers.mu.Lock()
	defer t.timers.mu.Unlock()
	beats := make([]Beat, 0, len(t.pulses))
	for _, l := range t.pulses {
		count := l.pulse.count.Load()
		beats = append(beats, Beat{Loop: l.name, Count: count, Idle: count%2 == 1})
	}
	return beats
}

// watched is a loop with its pulse.
type watched struct {
	name  string
	pulse *pulse
}

// newPulse makes the pulse of a loop. It is called by New alone.
func (t *Tunnel) newPulse(format string, args ...any) *pulse {
	p := new(pulse)
	t.pulses = append(t.pulses, watched{fmt.Sprintf(format, args...), p})
	return p
}

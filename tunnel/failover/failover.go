// Package failover decides which of several peers with the same allowed IPs carries the traffic
// for them: the one of the highest priority among those that work.
//
// It only judges: it has no clock, goroutine, socket or table. The caller observes the members at
// intervals (Observe), and asks which of a group is the best (Best). A Judge is not safe for
// concurrent use.
package failover

import (
	"time"

	"tund/internal/boottime"
)

const (
	// Health is how long a member that has failed must be reachable without a break before traffic
	// returns to it. Shorter, and a link that comes and goes would move all connections with it.
	Health = 10 * time.Second
	// grace is for how long a member without a session still counts as reachable: without traffic
	// a session ends after three minutes, and the next one takes a round trip or two.
	grace = 5 * time.Second
)

// Condition is what is known of a member at one moment.
type Condition uint8

// The conditions of a member.
const (
	Unknown Condition = iota // no session, and no attempt to make one has failed
	Up                       // there is a session, and the member answers
	Down                     // it does not answer
)

// Judge remembers how the members fared. The zero value knows none.
type Judge[V comparable] struct {
	members map[V]*record
}

// record is the history of one member.
type record struct {
	condition Condition
	failed    bool          // it was down, and has not been healthy since
	upSince   boottime.Time // start of the present time up
	lastUp    boottime.Time // when it was last seen up; 0: never
	seen      boottime.Time // when it was last observed
}

// Observe notes the condition of all members at now. Members that are not given are forgotten.
func (j *Judge[V]) Observe(all map[V]Condition, now boottime.Time) {
	for v := range j.members {
		if _, stays := all[v]; !stays {
			delete(j.members, v)
		}
	}
	if j.members == nil && len(all) > 0 {
		j.members = make(map[V]*record)
	}
	for v, condition := range all {
		r := j.members[v]
		if r == nil {
			r = new(record)
			j.members[v] = r
		}
		r.observe(condition, now)
	}
}

func (r *record) observe(c Condition, now boottime.Time) {
	switch {
	case c == Down:
		r.failed = true
	case c == Up && r.condition != Up:
		r.upSince = now
	}
	if c == Up {
		r.lastUp = now
		if now.Sub(r.upSince) >= Health {
			r.failed = false
		}
	}
	r.condition, r.seen = c, now
}

// The ranks of a member. A higher one is preferred, whatever the priorities.
const (
	rankDown      = iota
	rankUntried   // it may work
	rankReturning // it works again, but not for long
	rankHealthy
)

func (r *record) rank() int {
	switch {
	case r == nil:
		return rankUntried
	case r.condition == Down:
		return rankDown
	case r.condition == Up && r.failed:
		return rankReturning
	case r.condition == Up, r.lastUp != 0 && !r.failed && r.seen.Sub(r.lastUp) < grace:
		return rankHealthy
	case r.failed:
		return rankDown // it is being tried again
	}
	return rankUntried
}

// Best returns which of owners is to carry: the healthiest and, among equals, the one of the
// highest priority; among equal priorities, the first. owners has at least one element.
func (j *Judge[V]) Best(owners []V, priority func(V) int) V {
	best := owners[0]
	for _, v := range owners[1:] {
		a, b := j.members[v].rank(), j.members[best].rank()
		if a > b || a == b && priority(v) > priority(best) {
			best = v
		}
	}
	return best
}

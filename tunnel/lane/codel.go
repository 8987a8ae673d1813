package lane

import (
	"math"
	"time"

	"tund/internal/boottime"
)

// Parameters of the queue discipline (RFC 8289 §4.4). The target is higher than CoDel's 5 ms: a
// flow that is bounded by its own window of 4 MB keeps 7 ms in a queue that drains at 5 Gbit/s, and
// to lose its packets would gain nobody anything.
const (
	codelTarget   = 20 * time.Millisecond
	codelInterval = 100 * time.Millisecond
)

// codel says when to shed a packet of a queue that stands: one after an interval in which
// everything waited longer than the target, and the next ones sooner by the square root of their
// number, until something waited less.
//
// The zero value is ready. It belongs to one loop.
type codel struct {
	// When the wait was first above the target, plus an interval; 0: it is not above.
	above boottime.Time
	next  boottime.Time
	count int
}

// shed is called with each packet taken from the queue and the time it waited there. It reports
// whether to shed it.
func (c *codel) shed(waited time.Duration, now boottime.Time) bool {
	if waited < codelTarget {
		c.above, c.count = 0, c.count/2
		return false
	}
	if c.above == 0 {
		c.above = now.Add(codelInterval)
		c.next = c.above
	}
	if now < c.next {
		return false
	}
	c.count++
	c.next = now.Add(time.Duration(float64(codelInterval) / math.Sqrt(float64(c.count))))
	return true
}

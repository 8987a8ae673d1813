package lane

import (
	"math"
	"time"

	"tund/internal/boottime"
)

// Parameters of the queue discipline (RFC 8289 §4.4). The target is higher than CoDel's 5 ms: a
// flow that is limited by its own window of 4 MB keeps 7 ms in a queue that drains at 5 Gbit/s, and
// dropping its packets would benefit nobody.
const (
	codelTarget   = 20 * time.Millisecond
	codelInterval = 100 * time.Millisecond
)

// codel decides when to drop a packet from a standing queue. It drops one after an interval in
// which every packet waited longer than the target, and further ones at intervals that shrink with
// the square root of their number, until a packet has waited less.
//
// The zero value is ready. It belongs to one loop.
type codel struct {
	// One interval after the wait first exceeded the target; 0: it does not exceed it.
	above boottime.Time
	next  boottime.Time
	count int
}

// shed is called with the time that each packet taken from the queue has waited there. It reports
// whether to drop the packet.
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

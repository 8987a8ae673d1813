package tunnel

import (
	"math"
	"time"

	"tund/internal/boottime"
)

// standingInterval is how long a queue may stay filled before a flow is told to slow down: longer than the bursts
// of TCP on a fast path, short enough to keep what waits in it to a few milliseconds.
const standingInterval = 20 * time.Millisecond

// standing notices a standing queue before a loop, in the device's ring or the socket's buffer, and says when to shed
// a packet of a bulk flow.
//
// Neither queue has a queueing discipline that could do it: the kernel takes a packet off its accounting when it enters
// the TUN ring, and tail-drops when 32 MB wait there. A queue that empties now and then only absorbs bursts; one that
// has not been empty for an interval is a delay that everybody behind it pays. The rule is CoDel's (RFC 8289 §5) with
// emptiness in place of the sojourn time, which neither queue tells: one packet is shed after an interval, and the
// next ones sooner by the square root of their number, until the queue is empty once.
//
// The zero value is ready. It belongs to one loop.
type standing struct {
	since boottime.Time // the queue was last seen empty; 0: it is empty
	next  boottime.Time
	count int
}

// empty is called when the loop finds its queue empty.
func (s *standing) empty() { s.since, s.count = 0, s.count/2 }

// shed is called with each packet while the queue is not known to be empty. It reports whether to shed one.
func (s *standing) shed(now boottime.Time) bool {
	if s.since == 0 {
		s.since, s.next = now, now.Add(standingInterval)
		return false
	}
	if now < s.next {
		return false
	}
	s.count++
	s.next = now.Add(time.Duration(float64(standingInterval) / math.Sqrt(float64(s.count))))
	return true
}

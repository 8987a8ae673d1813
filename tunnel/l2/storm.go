package l2

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
)

// Class sorts frames by who receives them, for storm control.
type Class uint8

// The classes. Known unicast is not limited.
const (
	ClassUnicast Class = iota
	ClassBroadcast
	ClassMulticast
	ClassUnknown // unicast to a MAC that no port is known to have
	ClassProbe   // loop probes: a small budget of their own, since a storm is when they are needed
	classes
)

var classNames = [classes]string{"unicast", "broadcast", "multicast", "unknown-unicast", "probe"}

// String returns the name used in status and in events.
func (c Class) String() string {
	if c >= classes {
		return "invalid"
	}
	return classNames[c]
}

// Default storm limits, frames a second and port. R-25 of the field notes has 1000 for each; multicast gets more
// because a video stream is honest traffic.
const (
	DefaultBroadcastLimit = 1000
	DefaultMulticastLimit = 4000
	DefaultUnknownLimit   = 1000
	probeLimit            = 50
	stormBurst            = 250 * time.Millisecond // how much of a second's frames may come at once
	minBurstFrames        = 64                     // a superpacket must pass an idle port
)

// rate is a limit in the form the meter wants. The zero rate does not limit.
type rate struct {
	interval  int64 // ns that one frame uses up
	tolerance int64 // ns by which the meter may run ahead of the clock: the burst
}

// newRate makes a rate of framesPerSec; 0 takes def, negative does not limit.
func newRate(framesPerSec, def int) rate {
	if framesPerSec == 0 {
		framesPerSec = def
	}
	if framesPerSec < 0 {
		return rate{}
	}
	interval := max(int64(time.Second)/int64(framesPerSec), 1)
	return rate{interval, max(int64(stormBurst), minBurstFrames*interval)}
}

// meter is a token bucket in one word (the generic cell rate algorithm, ITU-T I.371): the time until which the
// frames let through so far have used up the rate. The zero meter is full. Safe for concurrent use.
type meter struct{ until atomic.Int64 }

// take accounts for n frames at now and reports whether they are within r. Frames that are not cost nothing. On
// an idle meter any n passes once: what is a superpacket larger than the burst must not starve for ever.
func (m *meter) take(now boottime.Time, n int, r rate) bool {
	if r.interval == 0 {
		return true
	}
	for {
		old := m.until.Load()
		start := max(old, int64(now))
		next := start + int64(n)*r.interval
		if start != int64(now) && next-int64(now) > r.tolerance {
			return false
		}
		if m.until.CompareAndSwap(old, next) {
			return true
		}
	}
}

package l2

import (
	"time"

	"tund/internal/limit"
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

// Default storm limits, frames a second and port. 1000 of each is ample for a site; multicast gets more
// because a video stream is honest traffic.
const (
	DefaultBroadcastLimit = 1000
	DefaultMulticastLimit = 4000
	DefaultUnknownLimit   = 1000
	probeLimit            = 50
	stormBurst            = 250 * time.Millisecond // how much of a second's frames may come at once
	minBurstFrames        = 64                     // a superpacket must pass an idle port
)

// newRate makes a rate of framesPerSec; 0 takes def, negative does not limit.
func newRate(framesPerSec, def int) limit.Rate {
	if framesPerSec == 0 {
		framesPerSec = def
	}
	if framesPerSec < 0 {
		return limit.Rate{}
	}
	return limit.PerSecond(framesPerSec, max(int(stormBurst*time.Duration(framesPerSec)/time.Second), minBurstFrames))
}

package l2

import (
	"tund/internal/boottime"
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
	minBurstFrames        = 64 // a superpacket must pass an idle port
)

// How a port's budget is shared.
//
// A second's worth of frames may come at once, whoever sends them: a router that takes over 600
// addresses announces them all in one moment. Beyond that, half a second's worth is kept for
// senders that have not used up their fair share, a sixteenth of the limit, lately; the second half
// of it for those among them whose MAC is known at the port, so that a flood of invented senders
// leaves the known ones their part. So a single host that storms takes what is left, and ARP and
// DHCP of the others pass as long as they themselves stay within the limit.
//
// Shares are counted in two rows of slots by a hash of the MAC with a secret seed. A sender is
// within its share when either of its slots says so: one that has a slot in common with the host
// that storms has the other. The cost is bounded, whatever is invented.
const (
	fairShare   = 16   // of the limit of a class, a sender's fair share is 1/fairShare
	localSlots  = 1024 // in a row, for the senders of our LAN
	remoteSlots = 32   // in a row, for those behind a peer
)

// stormRate is the limit of a class of frames.
type stormRate struct {
	all   limit.Rate // for everybody: a burst of a second
	fair  limit.Rate // for who is within its share: a quarter more
	known limit.Rate // and known: another quarter
	share limit.Rate
}

// newRate makes a rate of framesPerSec, with a burst of a second, or of minBurstFrames if that is
// more; 0 takes def, negative does not limit.
func newRate(framesPerSec, def int) limit.Rate { return burstRate(framesPerSec, def, 4) }

// burstRate is newRate with a burst of so many quarters of a second.
func burstRate(framesPerSec, def, quarters int) limit.Rate {
	if framesPerSec == 0 {
		framesPerSec = def
	}
	if framesPerSec < 0 {
		return limit.Rate{}
	}
	return limit.PerSecond(framesPerSec, max(framesPerSec, minBurstFrames)*quarters/4)
}

func newStormRate(framesPerSec, def int) stormRate {
	if framesPerSec == 0 {
		framesPerSec = def
	}
	r := stormRate{
		all: newRate(framesPerSec, def), fair: burstRate(framesPerSec, def, 5), known: burstRate(framesPerSec, def, 6),
	}
	if framesPerSec > 0 {
		share := max(framesPerSec/fairShare, 1)
		r.share = limit.PerSecond(share, share)
	}
	return r
}

// shares counts what the senders at a port used of its budget.
type shares struct{ rows [2][2][]limit.Bucket } // by whether the sender is known; two rows each

func newShares(slots int) (s shares) {
	for i := range s.rows {
		s.rows[i] = [2][]limit.Bucket{make([]limit.Bucket, slots), make([]limit.Bucket, slots)}
	}
	return s
}

// take accounts for n frames of the sender with the hash, and reports whether they are within its
// share.
func (s *shares) take(now boottime.Time, known bool, hash uint64, n int, r limit.Rate) bool {
	rows := &s.rows[0]
	if known {
		rows = &s.rows[1]
	}
	a := rows[0][uint32(hash)%uint32(len(rows[0]))].Take(now, n, r)
	b := rows[1][uint32(hash>>32)%uint32(len(rows[1]))].Take(now, n, r)
	return a || b
}

// withinStorm reports whether storm control lets the frame pass, whose class is not ClassUnicast.
func (s *Switch) withinStorm(f *frameInfo) bool {
	r, n := &f.view.storms[f.class], f.p.segments()
	if r.share == (limit.Rate{}) {
		return true
	}
	e, _, ok := s.fdb.find(entryKey(f.vid, f.h.Src))
	known := ok && e.port() == f.in.id
	rate := r.all
	// By MAC alone: a sender in many VLANs is one sender.
	if f.in.state.shares.take(f.now, known, s.fdb.hash(entryKey(0, f.h.Src)), n, r.share) {
		if rate = r.fair; known {
			rate = r.known
		}
	}
	return f.in.state.meters[f.class].Take(f.now, n, rate)
}

package l2

import (
	"tund/internal/boottime"
	"tund/internal/limit"
)

// Class classifies frames by their destination, for storm control.
type Class uint8

// The classes. ClassUnicast, known unicast, is not limited.
const (
	ClassUnicast Class = iota
	ClassBroadcast
	ClassMulticast
	ClassUnknown // unicast to a MAC that is not in the forwarding database
	// Loop probes, which have a small budget of their own because they are needed most during a
	// storm.
	ClassProbe
	classes
)

var classNames = [classes]string{"unicast", "broadcast", "multicast", "unknown-unicast", "probe"}

// String returns the name used in status output and events.
func (c Class) String() string {
	if c >= classes {
		return "invalid"
	}
	return classNames[c]
}

// Default storm limits, in frames per second per port. 1000 of each class is ample for a site; the
// multicast limit is higher because a video stream is legitimate traffic.
const (
	DefaultBroadcastLimit = 1000
	DefaultMulticastLimit = 4000
	DefaultUnknownLimit   = 1000
	probeLimit            = 50
	minBurstFrames        = 64 // lets one superpacket through an idle port
)

// How the budget of a port is shared among its senders.
//
// A full second's worth of frames may arrive at once, whoever sends them: a router that takes over
// 600 addresses announces them all in one burst. Beyond that, half a second's worth is reserved for
// senders that have recently stayed within their fair share, a sixteenth of the limit. The second
// half of this reserve is only for those among them whose MAC is known at the port, so that a flood
// with invented source addresses leaves known hosts their part. A single host that causes a storm
// therefore gets what is left over, and ARP and DHCP of the other hosts pass as long as these stay
// within the limit themselves.
//
// Shares are counted in two rows of slots, which are selected by a hash of the MAC with a secret
// seed. A sender is within its share if either of its slots says so: a sender that shares one slot
// with the host that causes the storm still has the other. The cost is bounded, however many
// addresses are invented.
const (
	fairShare   = 16   // the fair share of a sender is 1/fairShare of the limit of a class
	localSlots  = 1024 // slots per row for senders on our LAN
	remoteSlots = 32   // slots per row for senders behind a peer
)

// stormRate holds the limits of one class of frames.
type stormRate struct {
	all   limit.Rate // for every sender; its burst is one second
	fair  limit.Rate // for senders within their share: a quarter of a second more
	known limit.Rate // for those that are also known: another quarter
	share limit.Rate
}

// newRate returns a rate of framesPerSec with a burst of one second or minBurstFrames, whichever is
// more. 0 selects def; a negative value means no limit.
func newRate(framesPerSec, def int) limit.Rate { return burstRate(framesPerSec, def, 4) }

// burstRate is newRate with a burst of the given number of quarters of a second.
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

// shares counts how much of the budget of a port its senders have used.
// Indexed by whether the sender is known, then by row.
type shares struct{ rows [2][2][]limit.Bucket }

func newShares(slots int) (s shares) {
	for i := range s.rows {
		s.rows[i] = [2][]limit.Bucket{make([]limit.Bucket, slots), make([]limit.Bucket, slots)}
	}
	return s
}

// take accounts for n frames of the sender with the given hash, and reports whether they are within
// its share.
func (s *shares) take(now boottime.Time, known bool, hash uint64, n int, r limit.Rate) bool {
	rows := &s.rows[0]
	if known {
		rows = &s.rows[1]
	}
	a := rows[0][uint32(hash)%uint32(len(rows[0]))].Take(now, n, r)
	b := rows[1][uint32(hash>>32)%uint32(len(rows[1]))].Take(now, n, r)
	return a || b
}

// withinStorm reports whether storm control lets the frame pass. Its class is not ClassUnicast.
func (s *Switch) withinStorm(f *frameInfo) bool {
	r, n := &f.in.storms[f.class], f.p.segments()
	if r.share == (limit.Rate{}) {
		return true
	}
	e, _, ok := s.fdb.find(entryKey(f.vid, f.h.Src))
	known := ok && e.port() == f.in.id
	if a, assigned := s.assigned.find(entryKey(f.vid, f.h.Src)); assigned {
		known = known || a.port == f.in.id
	}
	rate := r.all
	// Keyed by MAC alone: a sender in several VLANs counts as one.
	if f.in.state.shares.take(f.now, known, s.fdb.hash(entryKey(0, f.h.Src)), n, r.share) {
		if rate = r.fair; known {
			rate = r.known
		}
	}
	return f.in.state.meters[f.class].Take(f.now, n, rate)
}

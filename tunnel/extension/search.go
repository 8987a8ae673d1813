package extension

import (
	"slices"
	"time"

	"tund/internal/boottime"
	"tund/internal/sizes"
)

// Path MTU discovery by probing (RFC 8899), in sizes of IP packets in bytes. A probe is an echo
// request of exactly the size to be tested, sent so that nobody on the way may fragment it. A probe
// without an answer says nothing by itself, since it may be lost: each is sent twice, and a small
// echo request with the second one shows that the path works at all.
const (
	// floorMTU is the size that every path is taken to carry, and below which no path is ever taken
	// to be: the minimum MTU of IPv6. A peer that answers no probes, or whose path is even
	// narrower, is sent packets of this size.
	floorMTU = sizes.MinIPv6MTU
	// maxProbeMTU is the largest size that is tried, in bytes: jumbo frames.
	maxProbeMTU = 9216
	// probesPerRound is the number of sizes tried at once. Between 1,280 and 1,500, three rounds
	// find the exact size.
	probesPerRound = 8
	// maxRounds bounds one search: five find any size below maxProbeMTU.
	maxRounds = 6
	// minProbeWait and maxProbeWait bound the wait for the answer to a probe, which is four round
	// trips.
	minProbeWait = 200 * time.Millisecond
	maxProbeWait = time.Second
	// confirmEvery is the interval in which the size in use is tried again while large packets are
	// sent: a path that has become narrower is found after it and two waits.
	confirmEvery = 1500 * time.Millisecond
	// raiseEvery is how long after a search it is tried whether the path has become wider (RFC 8899
	// §5.1.1, PMTU_RAISE_TIMER).
	raiseEvery = 10 * time.Minute
	// raiseSoon is the same after the path has become narrower: routes often come back.
	raiseSoon = time.Minute
	// retryAfter is how long to wait after a search that came to nothing because the path did not
	// work.
	retryAfter = 5 * time.Second
	// narrowRounds is how often in a row the least size may be lost, twice each time, while small
	// requests are answered, before the path is said not to carry it. On a path that loses three
	// datagrams in ten each way, that is chance once in 3,000 times.
	narrowRounds = 4
	// narrowEvery is how often that is tried again while no large packets are sent.
	narrowEvery = 10 * time.Second
)

// goal is what the probes under way are for.
type goal uint8

const (
	rest    goal = iota // none are under way
	confirm             // whether the size in use still passes
	find                // which size passes
	least               // whether floorMTU passes, in datagrams that may be fragmented on the way
)

// search finds the path MTU to one endpoint. It decides, and sends nothing: the caller sends the
// probes that it asks for, and tells it which are answered and what time it is. The zero search
// knows nothing.
type search struct {
	top   int // size to begin with: the MTU of the interface; never exceeded
	known int // largest size that is known to pass; 0: none
	goal  goal
	// Of the search under way: its round, the largest size that passes or is taken to, the smallest
	// that does not, and whether it began because the path became narrower.
	round, low, high int
	shrunk           bool

	probes []probe // under way
	again  bool    // they have been sent twice
	alive  bool    // a small echo request was answered meanwhile
	until  boottime.Time
	next   boottime.Time // nothing is begun before
	raise  boottime.Time // when to try larger sizes; 0: never

	// The least size: whether it has passed since it was last in doubt, how often in a row it has
	// not, and whether that is no chance.
	proven bool
	lost   int
	narrow bool
	pause  time.Duration // after a try that is not followed by another at once
}

// probe is a size that is being tried.
type probe struct {
	size     int
	answered bool
}

// reset forgets everything, for another endpoint or another interface.
func (s *search) reset(top int) { *s = search{top: within(top)} }

// within returns the size to begin with for an interface with the given MTU.
func within(mtu int) int { return min(max(mtu, floorMTU), maxProbeMTU) }

// begin decides what to do at now, if nothing is under way and inUse says that large packets are
// sent. It returns the sizes to send, or nil.
func (s *search) begin(now boottime.Time, wait time.Duration, inUse bool) []probe {
	doubtful := s.known == floorMTU && !s.proven
	if s.goal != rest || now < s.next || !inUse && s.known != 0 && !doubtful {
		return nil
	}
	switch {
	case s.known == 0 || s.raise != 0 && now >= s.raise:
		s.goal, s.round, s.low, s.high = find, 0, max(s.known, floorMTU), s.top+1
		return s.try(now, wait, s.top)
	case s.known > floorMTU:
		s.goal = confirm
		return s.try(now, wait, s.known)
	}
	s.goal, s.pause = least, confirmEvery
	if s.narrow && !inUse {
		s.pause = narrowEvery
	}
	return s.try(now, wait, floorMTU)
}

// try begins with sizes.
func (s *search) try(now boottime.Time, wait time.Duration, sizes ...int) []probe {
	s.probes, s.again, s.alive = s.probes[:0], false, false
	for _, size := range sizes {
		s.probes = append(s.probes, probe{size: size})
	}
	s.until = now.Add(wait)
	return s.probes
}

// answered notes the answer to a probe, or with size 0 to a small echo request. It reports whether
// nothing else has to be waited for.
func (s *search) answered(size int) (over bool) {
	if size == 0 {
		s.alive = true
		return false
	}
	for i := range s.probes {
		if s.probes[i].size == size {
			s.probes[i].answered, s.alive = true, true
		}
	}
	return s.goal != rest && !slices.ContainsFunc(s.probes, func(p probe) bool { return !p.answered })
}

// refused notes that a probe cannot be sent because it is larger than the interface takes. There is
// no point in another try, and it proves nothing about the path.
func (s *search) refused(size int) {
	s.probes = slices.DeleteFunc(s.probes, func(p probe) bool { return p.size == size })
	s.high = min(s.high, size)
}

// proceed decides what to do when the wait is over or all probes are answered. It returns the sizes
// to send, with a small echo request if small is set; and whether what is known has changed.
func (s *search) proceed(now boottime.Time, wait time.Duration) (sizes []probe, small, changed bool) {
	unanswered := slices.DeleteFunc(slices.Clone(s.probes), func(p probe) bool { return p.answered })
	if len(unanswered) > 0 && !s.again {
		s.again, s.until = true, now.Add(wait)
		return unanswered, true, false
	}
	was, wasNarrow := s.known, s.narrow
	if len(unanswered) > 0 && !s.alive { // the path does not work: nothing was learned
		s.end(now, retryAfter)
		return nil, false, false
	}
	if s.goal == least {
		return nil, false, s.judgeLeast(now, len(unanswered) == 0)
	}
	if s.goal == confirm {
		if len(unanswered) == 0 {
			s.end(now, confirmEvery)
			return nil, false, false
		}
		// What is in use does not pass any more. The least that passes is used until the search,
		// which begins now, finds more. It tries the present size again: both probes may have been
		// lost.
		s.goal, s.round, s.low, s.high, s.known, s.shrunk = find, 0, floorMTU, s.known+1, floorMTU, true
		s.proven = false
		s.divide(now, wait)
		if last := s.high - 1; !slices.ContainsFunc(s.probes, func(p probe) bool { return p.size == last }) {
			s.probes = append(s.probes, probe{size: last})
		}
		return s.probes, false, true
	}
	for _, p := range s.probes {
		if p.answered {
			s.low = max(s.low, p.size)
			s.proven, s.lost, s.narrow = true, 0, false
		}
	}
	for _, p := range unanswered {
		if p.size > s.low {
			s.high = min(s.high, p.size)
		}
	}
	s.known = s.low
	if s.round++; s.high-s.low > 1 && s.round < maxRounds {
		if sizes = s.divide(now, wait); len(sizes) > 0 {
			return sizes, false, s.known != was || s.narrow != wasNarrow
		}
	}
	s.raise = now.Add(raiseEvery)
	if s.shrunk {
		s.raise = now.Add(raiseSoon)
	}
	if s.known == s.top {
		s.raise = 0
	}
	s.shrunk = false
	s.end(now, confirmEvery)
	return nil, false, s.known != was || s.narrow != wasNarrow
}

// judgeLeast notes whether the least size has passed, and reports whether the verdict on it has
// changed.
func (s *search) judgeLeast(now boottime.Time, passed bool) (changed bool) {
	was := s.narrow
	if passed {
		s.proven, s.lost, s.narrow = true, 0, false
	} else if s.lost++; s.lost >= narrowRounds {
		s.narrow = true
	}
	pause := s.pause
	if !passed && !s.narrow {
		pause = 0
	}
	s.end(now, pause)
	return s.narrow != was
}

// divide tries sizes between low and high.
func (s *search) divide(now boottime.Time, wait time.Duration) []probe {
	var sizes []int
	gap := s.high - s.low
	n := min(probesPerRound, gap-1)
	for i := 1; i <= n; i++ {
		sizes = append(sizes, s.low+gap*i/(n+1))
	}
	return s.try(now, wait, sizes...)
}

// end ends what is under way. Nothing else is begun for a time.
func (s *search) end(now boottime.Time, pause time.Duration) {
	s.goal, s.probes, s.until, s.next = rest, s.probes[:0], 0, now.Add(pause)
}

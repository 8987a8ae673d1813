package lane

import "sync/atomic"

// LinkState says whether the tunnel's devices are up. While none is, nothing is sent or answered.
// The zero LinkState is up.
type LinkState struct {
	down atomic.Bool
	// Up asks the devices themselves, quickly, whether one of them is up. It is asked while Set
	// says that they are down. Constant; an empty list: nobody knows better.
	Up []func() bool
}

// Set says whether a device is up.
func (s *LinkState) Set(up bool) { s.down.Store(!up) }

// KnownDown reports what Set said last.
func (s *LinkState) KnownDown() bool { return s.down.Load() }

// Down reports whether nothing is to be sent or answered. Before it says yes it asks the devices,
// so that what comes in the moment after the link went up is not lost because Set has not been
// called yet.
func (s *LinkState) Down() bool {
	if !s.down.Load() {
		return false
	}
	for _, up := range s.Up {
		if up() {
			s.down.Store(false)
			return false
		}
	}
	return true
}

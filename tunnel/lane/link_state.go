package lane

import "sync/atomic"

// LinkState tells whether the tunnel's devices are up. While none is, nothing is sent or answered.
// The zero LinkState is up.
type LinkState struct {
	down atomic.Bool
	// Up asks the devices themselves, quickly, whether one of them is up. It is called while Set
	// has reported that they are down. Constant; an empty list means that Set is the only source.
	Up []func() bool
}

// Set notes whether a device is up.
func (s *LinkState) Set(up bool) { s.down.Store(!up) }

// KnownDown reports whether the last call of Set said that the devices are down.
func (s *LinkState) KnownDown() bool { return s.down.Load() }

// Down reports whether nothing is to be sent or answered. Before it returns true it asks the
// devices, so that packets are not lost in the moment after the link went up and before Set is
// called.
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

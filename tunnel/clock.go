package tunnel

import (
	"time"

	"tund/internal/boottime"
)

// Clock tells a tunnel the time. Tests that run on virtual time give their own.
type Clock interface {
	// Now is the age of the machine, suspend included: the clock of keys and timers.
	Now() boottime.Time
	// Wall is the time of day: for handshake timestamps and for showing to people, never for deciding.
	Wall() time.Time
}

type systemClock struct{}

func (systemClock) Now() boottime.Time { return boottime.Now() }
func (systemClock) Wall() time.Time    { return time.Now() }

// SystemClock returns the machine's clocks: CLOCK_BOOTTIME and the time of day.
func SystemClock() Clock { return systemClock{} }

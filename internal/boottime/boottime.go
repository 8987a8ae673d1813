// Package boottime is the clock by which keys age: nanoseconds since boot, including suspend; and
// Wall, a compact time of the wall clock for what people read.
//
// Go's monotonic clock is CLOCK_MONOTONIC, which stops while the machine is suspended, so on a
// laptop that was closed a session could outlive its 180 seconds. The kernel's WireGuard ages keys
// on CLOCK_BOOTTIME (drivers/net/wireguard/noise.c), and so does tund.
//
// The package only reads the clocks. It has no timers; code that decides takes a Time as an
// argument, so tests can pass any. All functions are safe for concurrent use.
package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Time is an instant in nanoseconds since boot. The zero Time means "never": no real reading is
// zero.
type Time int64

// Now reads CLOCK_BOOTTIME. It is a system call (there is no vDSO path from Go), so the packet path
// calls it once per batch and passes the value down.
func Now() Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("boottime: CLOCK_BOOTTIME unreadable: " + err.Error()) // present since Linux 2.6.39
	}
	return Time(ts.Nano())
}

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the time from u to t; negative when t is earlier.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Before reports whether t is earlier than u.
func (t Time) Before(u Time) bool { return t < u }

// IsZero reports whether t is the zero Time, "never".
func (t Time) IsZero() bool { return t == 0 }

// Clock tells the time. Tests that run on virtual time give their own.
type Clock interface {
	// Now is the age of the machine, suspend included: the clock of keys and timers.
	Now() Time
	// Wall is the time of day: for handshake timestamps and for showing to people, never for
	// deciding.
	Wall() time.Time
}

type systemClock struct{}

func (systemClock) Now() Time       { return Now() }
func (systemClock) Wall() time.Time { return time.Now() }

// System returns the machine's clocks: CLOCK_BOOTTIME and the time of day.
func System() Clock { return systemClock{} }

// Package limit bounds how often something happens: Bucket is a token bucket, and Every allows one
// event in each interval and counts the others.
//
// Both take a word or two of memory, have no goroutine, lock or clock of their own, and are safe
// for concurrent use. Callers pass the time. A refused event does not delay later ones.
package limit

import (
	"sync/atomic"
	"time"

	"tund/internal/boottime"
)

// Rate is a limit in the form in which a Bucket wants it. The zero Rate does not limit.
type Rate struct {
	interval  int64 // ns that one event uses up
	tolerance int64 // ns by which the events let through may run ahead of the clock: the burst
}

// PerSecond returns the rate of n events a second of which burst may come at once. n must be
// positive.
func PerSecond(n, burst int) Rate { return Each(time.Second/time.Duration(n), burst) }

// Each returns the rate of one event in each interval, of which burst may come at once.
func Each(interval time.Duration, burst int) Rate {
	ns := max(int64(interval), 1)
	return Rate{ns, int64(burst) * ns}
}

// Until is the state of one bucket without the atomic: the boottime up to which the events let
// through so far have used up the rate. Zero is a bucket that is full of tokens. It is for tables
// that have a lock already.
type Until int64

// Take accounts for one event at now and reports whether it is within r.
func (u *Until) Take(now boottime.Time, r Rate) bool {
	next := max(int64(*u), int64(now)) + r.interval
	if r.interval != 0 && next-int64(now) > r.tolerance {
		return false
	}
	*u = Until(next)
	return true
}

// Bucket is a token bucket in one word: the generic cell rate algorithm (ITU-T I.371). The zero
// Bucket is full.
type Bucket struct{ until atomic.Int64 }

// Take accounts for n events at now and reports whether they are within r. Events that are not cost
// nothing. On an idle bucket any n passes once: what comes in one piece that is larger than the
// burst must not starve for ever.
func (b *Bucket) Take(now boottime.Time, n int, r Rate) bool {
	if r.interval == 0 {
		return true
	}
	for {
		old := b.until.Load()
		start := max(old, int64(now))
		next := start + int64(n)*r.interval
		if start != int64(now) && next-int64(now) > r.tolerance {
			return false
		}
		if b.until.CompareAndSwap(old, next) {
			return true
		}
	}
}

// Every lets one event through in each interval. The zero Every lets the first one through.
type Every struct {
	next  atomic.Int64
	count atomic.Uint64 // since one was let through
}

// Open reports whether the caller's event is let through at now, and then how many there have been
// since the last that was, this one included.
func (e *Every) Open(now boottime.Time, interval time.Duration) (count uint64, ok bool) {
	e.count.Add(1)
	next := e.next.Load()
	if int64(now) < next || !e.next.CompareAndSwap(next, int64(now.Add(interval))) {
		return 0, false
	}
	return e.count.Swap(0), true
}

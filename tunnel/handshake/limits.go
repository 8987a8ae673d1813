package handshake

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"tund/internal/boottime"
	"tund/internal/limit"
)

// Limits on the handshakes of one source (kernel ratelimiter.c): a token bucket of 5, refilled at
// 20 a second.
const (
	handshakesPerSecond = 20
	handshakeBurst      = 5
	// maxSources bounds the table. It has room for the sources of one second at the rate at which
	// the workers can answer. When it is full, unknown sources are refused until the next sweep.
	maxSources = 8192
)

var handshakeRate = limit.PerSecond(handshakesPerSecond, handshakeBurst)

// sourceLimiter limits how many handshakes one source can make us work on. IPv6 sources are counted
// by their /64, which is what one customer has; counted by address, one host could appear as 2^64
// sources.
type sourceLimiter struct {
	mu      sync.Mutex
	sources map[netip.Prefix]limit.Until
	swept   boottime.Time
}

func sourceOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// allow reports whether src may have one more handshake now.
func (l *sourceLimiter) allow(src netip.Addr, now boottime.Time) bool {
	key := sourceOf(src)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > time.Second {
		l.sweep(now)
	}
	until, known := l.sources[key]
	if !known {
		if len(l.sources) >= maxSources {
			return false
		}
		if l.sources == nil {
			l.sources = make(map[netip.Prefix]limit.Until)
		}
	}
	ok := until.Take(now, handshakeRate)
	l.sources[key] = until
	return ok
}

// sweep forgets sources whose bucket has long been full again. Callers hold mu.
func (l *sourceLimiter) sweep(now boottime.Time) {
	l.swept = now
	for k, until := range l.sources {
		if now.Sub(boottime.Time(until)) > time.Second {
			delete(l.sources, k)
		}
	}
}

// Limits on cookie replies, of 64 bytes each. They apply per cell, and so allow at most 2 MB/s in
// all.
const (
	cookieCells    = 4096
	cookiesPerCell = 8 // a second
)

var cookieRate = limit.PerSecond(cookiesPerCell, cookiesPerCell)

// cookieBudget limits cookie replies without letting a flood exhaust what genuine initiators need.
// Sources are assigned to cells by a keyed hash: a single source can flood only its own cell, and
// even 20,000 forged sources a second leave room in most cells.
type cookieBudget struct {
	seed  maphash.Seed
	cells [cookieCells]limit.Bucket
}

// allow reports whether another cookie reply may be sent to src now. An IPv6 source is its /64.
func (b *cookieBudget) allow(src netip.Addr, now boottime.Time) bool {
	return b.cells[maphash.Comparable(b.seed, sourceOf(src))%cookieCells].Take(now, 1, cookieRate)
}

// replayMemory is how long a copy of an initiation is recognized: the lifetime of the session that
// it could have made.
const replayMemory = 180 * time.Second

// recentInitiations remembers the mac1 of accepted initiations, so that copies are dropped before
// they take a place in the queue. Without it, a burst of one recorded initiation makes a server
// appear under load and answer everybody with cookie replies (wireguard list, 2026-April/009563).
//
// It is a fixed table of keyed hashes: an attacker can displace entries, but cannot choose which.
type recentInitiations struct {
	seed maphash.Seed

	mu      sync.Mutex
	entries [2048][2]recentEntry
}

type recentEntry struct {
	hash uint64
	at   boottime.Time
}

func newRecentInitiations() *recentInitiations {
	return &recentInitiations{seed: maphash.MakeSeed()}
}

// add remembers mac1 and reports whether it was already there.
func (r *recentInitiations) add(mac1 []byte, now boottime.Time) (seen bool) {
	h := maphash.Bytes(r.seed, mac1)
	r.mu.Lock()
	defer r.mu.Unlock()
	set := &r.entries[h%uint64(len(r.entries))]
	oldest := 0
	for i := range set {
		if set[i].hash == h && set[i].at != 0 && now.Sub(set[i].at) < replayMemory {
			return true
		}
		if set[i].at < set[oldest].at {
			oldest = i
		}
	}
	set[oldest] = recentEntry{h, now}
	return false
}

// forget removes mac1 again: its sender was only asked to prove its address, and the next copy may
// be the genuine one.
func (r *recentInitiations) forget(mac1 []byte) {
	h := maphash.Bytes(r.seed, mac1)
	r.mu.Lock()
	defer r.mu.Unlock()
	set := &r.entries[h%uint64(len(r.entries))]
	for i := range set {
		if set[i].hash == h {
			set[i] = recentEntry{}
		}
	}
}

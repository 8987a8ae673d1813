package tunnel

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tund/internal/boottime"
)

// Bounds on handshakes of one source (kernel ratelimiter.c): a token bucket of 5, refilled 20 times a second.
const (
	handshakesPerSecond = 20
	handshakeBurst      = 5
	tokenCost           = time.Second / handshakesPerSecond
	tokenMax            = tokenCost * handshakeBurst
	// maxSources bounds the table. It has room for the sources of one second at the rate at which the workers
	// can answer; when it is full, sources not yet known are refused until the next sweep.
	maxSources = 8192
)

// sourceLimiter bounds the handshakes that one source can make us work for. IPv6 sources are taken by their /64,
// which is what one customer has; by address, one host could be 2^64 of them.
type sourceLimiter struct {
	mu      sync.Mutex
	sources map[netip.Prefix]bucket
	swept   boottime.Time
}

type bucket struct {
	tokens time.Duration
	last   boottime.Time
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
	b, known := l.sources[key]
	if !known {
		if len(l.sources) >= maxSources {
			return false
		}
		if l.sources == nil {
			l.sources = make(map[netip.Prefix]bucket)
		}
		l.sources[key] = bucket{tokens: tokenMax - tokenCost, last: now}
		return true
	}
	b.tokens = min(b.tokens+now.Sub(b.last), tokenMax)
	b.last = now
	ok := b.tokens >= tokenCost
	if ok {
		b.tokens -= tokenCost
	}
	l.sources[key] = b
	return ok
}

// sweep forgets sources whose bucket has been full again for a while. Callers hold mu.
func (l *sourceLimiter) sweep(now boottime.Time) {
	l.swept = now
	for k, b := range l.sources {
		if now.Sub(b.last) > time.Second {
			delete(l.sources, k)
		}
	}
}

// Bounds on cookie replies, of 64 bytes each: by the second and slot, and so at most 2 MB a second in all.
const (
	cookieSlots    = 4096
	cookiesPerSlot = 8
)

// cookieBudget bounds the cookie replies, without letting a flood use up what genuine initiators need. Sources share
// slots by a keyed hash: one source floods its own slot only, and 20,000 invented ones a second leave room in most.
type cookieBudget struct {
	seed  maphash.Seed
	slots [cookieSlots]atomic.Uint64 // second of the last reply << 8 | replies in it
}

// allow reports whether src may be sent one more cookie reply now. An IPv6 source is its /64.
func (b *cookieBudget) allow(src netip.Addr, now boottime.Time) bool {
	slot := &b.slots[maphash.Comparable(b.seed, sourceOf(src))%cookieSlots]
	second := uint64(now) / uint64(time.Second)
	for {
		old, n := slot.Load(), uint64(0)
		if old>>8 == second {
			n = old & 0xff
		}
		if n >= cookiesPerSlot {
			return false
		}
		if slot.CompareAndSwap(old, second<<8|(n+1)) {
			return true
		}
	}
}

// replayMemory is how long a copy of an initiation is recognized: as long as the session it could have made.
const replayMemory = 180 * time.Second

// recentInitiations remembers the mac1 of initiations that were taken in, so that copies of them are dropped before
// they cost a place in the queue. Without it a burst of one recorded initiation makes a server look under load and
// answer everybody with cookie replies (wireguard list, 2026-April/009563).
//
// It is a fixed table of keyed hashes: an attacker can push entries out, but not choose which.
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

// add remembers mac1 and reports whether it was there already.
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

// forget takes mac1 out again: its sender was only asked to prove its address, and the copy that comes next may be
// the genuine one.
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

// limiter lets one message through in each interval and counts the others. The zero value is ready. It is guarded
// by its owner's lock.
type limiter struct {
	next       boottime.Time
	suppressed int
}

// allow reports whether to speak now, and how many were kept back since the last time.
func (l *limiter) allow(now boottime.Time, every time.Duration) (ok bool, suppressed int) {
	if now < l.next {
		l.suppressed++
		return false, 0
	}
	l.next = now.Add(every)
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}

// Control messages of one peer that the switch takes: a site of 16,384 MACs announces itself in 128 messages at once.
const (
	controlsPerSecond = 100
	controlBurst      = 256
)

// meter lets controlsPerSecond events through, and a burst. The zero value is ready; lanes may share it.
type meter struct{ full atomic.Int64 } // boottime at which the burst is whole again

func (m *meter) allow(now boottime.Time) bool {
	const cost = int64(time.Second / controlsPerSecond)
	for {
		old := m.full.Load()
		next := max(old, int64(now)) + cost
		if next-int64(now) > controlBurst*cost {
			return false
		}
		if m.full.CompareAndSwap(old, next) {
			return true
		}
	}
}

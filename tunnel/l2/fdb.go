package l2

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"tund/internal/boottime"
)

// fdb is the forwarding database: (VLAN, MAC) → port.
//
// # Structure
//
// A hash table of fixed size, allocated once: buckets of eight slots, two candidate buckets per
// key, and a seeded hash. It has twice as many slots as entries it may hold. At that load it
// practically never happens that both buckets of a key are full; if it does, the key is not
// learned. No input can make the table grow.
//
// # Locking
//
// find takes no lock. Each bucket has a sequence counter, which is odd while the bucket is being
// changed. A reader that finds it odd or changed retries, and takes mu after four attempts, so that
// a preempted writer cannot make readers spin. Refreshing the age of an entry is a plain atomic
// store, at most one per second, and does not change the sequence. Everything else (learn, move,
// remove, age, list) holds mu. BenchmarkFind on 2 busy cores of an EPYC: 5 ns per lookup with one
// reader, and 11 ns each with two concurrent readers; 16 maps with an RWMutex each took 16 and 30
// ns, sync.Map 13 and 30 ns.
//
// # Eviction
//
// A port at its limit evicts its own oldest unestablished entry to learn a new one; an entry is
// established once it has been seen in two different seconds. If the few entries examined are all
// established, the new MAC is not learned, and frames to it are flooded within the limit for
// unknown unicast. A flood of invented sources therefore only displaces other invented sources, and
// known hosts stay known. At the limit of the whole table, the port with the most entries evicts
// one in the same way, and an established one if necessary.
type fdb struct {
	buckets      []bucket
	mask         uint32
	seed0, seed1 uint64

	mu      sync.Mutex // guards everything below, and every change to a bucket except to its seen
	cold    []cold
	ports   map[PortID]*portEntries
	count   int // total number of entries, static ones included
	maximum int
	ageSecs uint32
	scan    uint32 // next bucket to be aged
	claims  []int32
	guesses []challenge             // to be asked by the next tick; as long as maxGuessed
	homes   map[uint64]home         // of MACs whose entry has aged out
	hints   []atomic.Uint64         // where these were, read without mu; a power of two
	changes changes[Change]         // since the last tick
	doubts  map[doubt]boottime.Time // until when; see takeover.go

	bridged  bool // the bridge of the TAP can be asked when it last heard a MAC; see station.go
	allVLANs bool // that bridge does not distinguish VLANs
}

const (
	ways          = 8
	maxEvictProbe = 16 // entries examined to find one to evict
	tornRetries   = 4
)

type bucket struct {
	seq  atomic.Uint32 // odd while keys and vals are being changed
	_    uint32
	keys [ways]atomic.Uint64 // 0: free
	vals [ways]atomic.Uint64
	seen [ways]atomic.Uint32 // second of boottime
}

// A key is 1<<63 | VLAN<<48 | MAC. The top bit distinguishes it from a free slot.
func entryKey(vid uint16, mac MAC) uint64 { return 1<<63 | uint64(vid)<<48 | uint64(mac) }

func keyVID(key uint64) uint16 { return uint16(key>>48) & vidMask }
func keyMAC(key uint64) MAC    { return MAC(key) & Broadcast }

// A value is flags<<32 | port.
type entryValue uint64

const (
	flagStatic  entryValue = 1 << 32 // pinned: never moves, ages out or is evicted
	flagFrozen  entryValue = 1 << 33 // moved too often: does not move for a while
	flagClaimed entryValue = 1 << 34 // another port claims the MAC; see claim.go
	flagStation entryValue = 1 << 35 // the bridge of the TAP has it at another port; see station.go
	flagFixed   entryValue = 1 << 36 // a station that no peer may claim
	flagNamed   entryValue = 1 << 37 // its address is known, or guessed in vain; see guess.go
)

func (v entryValue) port() PortID { return PortID(v) }

// cold is the part of an entry that lookups do not need: one per slot, without pointers.
type cold struct {
	created     uint32        // second
	prev, next  int32         // list of the port's entries, oldest first; -1 ends it
	moves       uint8         // moves since movesFrom
	movesFrom   uint32        // second
	origin      PortID        // port that had the MAC at movesFrom, or the TAP if it had it since
	from        PortID        // port that had the MAC before the TAP last took it; LocalPort: none
	frozenUntil uint32        // second
	conceded    boottime.Time // see vrrp.go; 0: never
	claim       claim
	guesses     uint8 // addresses that it was asked for; see guess.go
	hostLen     uint8 // 0, 4 or 16
	host        [16]byte
}

type portEntries struct {
	head, tail int32
	n          int // learned entries; static ones are not in the list
	limit      int
	hard       bool // beyond the limit, sources are refused rather than just not learned
	full       bool // the limit was reached since the last call of takeFull
	homes      int  // remembered MACs that have aged out; see home.go
	weakHomes  int  // of these, the ones seen within a single second only
}

func newFDB(maximum int, ageSecs uint32, seed0, seed1 uint64) *fdb {
	n := uint32(1)
	for int(n)*ways < 2*maximum {
		n *= 2
	}
	t := &fdb{
		buckets: make([]bucket, n), mask: n - 1, seed0: seed0, seed1: seed1 | 1,
		cold: make([]cold, int(n)*ways), ports: make(map[PortID]*portEntries), maximum: maximum, ageSecs: ageSecs,
		homes: make(map[uint64]home), doubts: make(map[doubt]boottime.Time), hints: make([]atomic.Uint64, n*ways/2),
		guesses: make([]challenge, 0, maxGuessed),
	}
	return t
}

// places returns the two candidate buckets of key.
func (t *fdb) places(key uint64) (a, b uint32) {
	h := t.hash(key)
	return uint32(h) & t.mask, uint32(h>>32) & t.mask
}

// hash returns a hash of key. Without knowing the seeds, the folded product is hard to steer.
func (t *fdb) hash(key uint64) uint64 {
	hi, lo := bits.Mul64(key^t.seed0, t.seed1)
	return hi ^ lo
}

// find returns the value of key and its slot. It takes no lock unless a writer keeps interfering.
func (t *fdb) find(key uint64) (v entryValue, slot int32, ok bool) {
	a, b := t.places(key)
	for range tornRetries {
		v, slot, ok, torn := t.findOnce(key, a, b)
		if !torn {
			return v, slot, ok
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.findLocked(key)
}

func (t *fdb) findOnce(key uint64, a, b uint32) (v entryValue, slot int32, ok, torn bool) {
	if v, way, torn := t.buckets[a].find(key); way >= 0 || torn {
		return v, int32(a)*ways + int32(way), way >= 0, torn
	}
	v, way, torn := t.buckets[b].find(key)
	return v, int32(b)*ways + int32(way), way >= 0, torn
}

func (t *fdb) findLocked(key uint64) (entryValue, int32, bool) {
	a, b := t.places(key)
	// Mu is held: no writer is active, so the read cannot be torn.
	v, slot, ok, _ := t.findOnce(key, a, b)
	return v, slot, ok
}

// find returns the index of the slot that holds key, or -1. If torn is true, the result is
// meaningless.
func (b *bucket) find(key uint64) (v entryValue, way int, torn bool) {
	seq := b.seq.Load()
	way = -1
	for i := range b.keys {
		if b.keys[i].Load() == key {
			v, way = entryValue(b.vals[i].Load()), i
			break
		}
	}
	return v, way, seq&1 != 0 || b.seq.Load() != seq
}

func (t *fdb) at(slot int32) (*bucket, int) { return &t.buckets[slot/ways], int(slot % ways) }

func (t *fdb) keyAt(slot int32) uint64 {
	b, w := t.at(slot)
	return b.keys[w].Load()
}

func (t *fdb) value(slot int32) entryValue {
	b, w := t.at(slot)
	return entryValue(b.vals[w].Load())
}

// setValue changes the value of an existing entry. It is a single word, so readers need no
// sequence. mu is held.
func (t *fdb) setValue(slot int32, v entryValue) {
	b, w := t.at(slot)
	b.vals[w].Store(uint64(v))
}

// seenAt returns the second in which the entry was last seen.
func (t *fdb) seenAt(slot int32) uint32 {
	b, w := t.at(slot)
	return b.seen[w].Load()
}

// refresh records that the entry was seen in second sec, and reports whether this is the first time
// in that second. It takes no lock; if the slot has been reused for another key in the meantime,
// the age of that entry is slightly wrong, which does no harm.
func (t *fdb) refresh(slot int32, sec uint32) (first bool) {
	b, w := t.at(slot)
	if b.seen[w].Load() == sec {
		return false
	}
	b.seen[w].Store(sec)
	return true
}

// setLimit sets how many entries a port may learn, and whether sources beyond them are refused.
func (t *fdb) setLimit(port PortID, limit int, hard bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.port(port)
	p.limit, p.hard = limit, hard
	for p.n > p.limit {
		t.remove(p.head)
	}
}

// setMaximum sets the maximum number of entries and their ageing time. It returns the maximum in
// effect, which is at most half the number of slots, so that keys keep finding room in their
// buckets.
func (t *fdb) setMaximum(n int, ageSecs uint32) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.maximum, t.ageSecs = min(n, len(t.cold)/2), ageSecs
	for t.count > t.maximum {
		before := t.count
		for _, p := range t.ports {
			if p.n > 0 && t.count > t.maximum && !t.evict(p, true) {
				break
			}
		}
		if t.count == before {
			break // only static entries are left
		}
	}
	return t.maximum
}

func (t *fdb) port(id PortID) *portEntries {
	p := t.ports[id]
	if p == nil {
		p = &portEntries{head: -1, tail: -1}
		t.ports[id] = p
	}
	return p
}

// insert adds an entry for key at port, making room by the eviction rules of fdb. It returns the
// slot, or -1 if there is no room. key must not be present. mu is held.
func (t *fdb) insert(key uint64, port PortID, sec uint32, flags entryValue) int32 {
	p := t.port(port)
	static := flags&flagStatic != 0
	if !static && p.n >= p.limit {
		p.full = true
		if p.hard || !t.evict(p, false) {
			return -1
		}
	}
	if t.count >= t.maximum && !t.makeRoom(p, static) {
		return -1
	}
	slot := t.freeSlot(key)
	if slot < 0 {
		return -1
	}
	t.cold[slot] = cold{created: sec, prev: -1, next: -1}
	b, w := t.at(slot)
	b.seq.Add(1)
	b.vals[w].Store(uint64(flags) | uint64(port))
	b.seen[w].Store(sec)
	b.keys[w].Store(key)
	b.seq.Add(1)
	t.count++
	if !static {
		t.append(p, slot)
	}
	t.changes.add(Change{Op: ChangeLearned, MAC: keyMAC(key), VLAN: keyVID(key), Port: port})
	return slot
}

// freeSlot returns a free slot in the emptier of the key's two buckets, or -1.
func (t *fdb) freeSlot(key uint64) int32 {
	best, bestFree := int32(-1), 0
	a, b := t.places(key)
	for _, n := range [2]uint32{a, b} {
		free, first := 0, int32(-1)
		for w := range t.buckets[n].keys {
			if t.buckets[n].keys[w].Load() == 0 {
				free++
				if first < 0 {
					first = int32(n)*ways + int32(w)
				}
			}
		}
		if free > bestFree {
			best, bestFree = first, free
		}
	}
	return best
}

// makeRoom evicts an entry of the port that has the most. For a static entry, or for a port that
// has fewer entries, it may evict an established one: a full table is shared fairly.
func (t *fdb) makeRoom(p *portEntries, static bool) bool {
	fullest := p
	for _, q := range t.ports {
		if q.n > fullest.n {
			fullest = q
		}
	}
	fullest.full = true
	return t.evict(fullest, static || fullest.n > p.n+1)
}

// evict removes the least recently seen unestablished entry among the oldest of p; if there is none
// and force is set, the least recently seen established one. Entries examined and kept move to the
// end of the list, so that the next call examines others.
func (t *fdb) evict(p *portEntries, force bool) bool {
	victim, weak := int32(-1), false
	for range min(maxEvictProbe, p.n) {
		slot := p.head
		t.unlink(p, slot)
		t.append(p, slot)
		w := t.seenAt(slot) <= t.cold[slot].created // seen within a single second only
		if victim < 0 || w && !weak || w == weak && t.seenAt(slot) < t.seenAt(victim) {
			victim, weak = slot, w
		}
		if weak {
			break // the list is oldest first: no better candidate follows
		}
	}
	if victim < 0 || !weak && !force {
		return false
	}
	t.remove(victim)
	return true
}

// remove removes the entry in slot. mu is held.
func (t *fdb) remove(slot int32) {
	v := t.value(slot)
	if v&flagStatic == 0 {
		t.unlink(t.port(v.port()), slot)
	}
	b, w := t.at(slot)
	key := b.keys[w].Load()
	t.changes.add(Change{Op: ChangeGone, MAC: keyMAC(key), VLAN: keyVID(key), Port: v.port()})
	b.seq.Add(1)
	b.keys[w].Store(0)
	b.vals[w].Store(0)
	b.seq.Add(1)
	t.count--
}

func (t *fdb) append(p *portEntries, slot int32) {
	t.cold[slot].prev, t.cold[slot].next = p.tail, -1
	if p.tail >= 0 {
		t.cold[p.tail].next = slot
	} else {
		p.head = slot
	}
	p.tail = slot
	p.n++
}

func (t *fdb) unlink(p *portEntries, slot int32) {
	c := &t.cold[slot]
	if c.prev >= 0 {
		t.cold[c.prev].next = c.next
	} else {
		p.head = c.next
	}
	if c.next >= 0 {
		t.cold[c.next].prev = c.prev
	} else {
		p.tail = c.prev
	}
	p.n--
}

package l2

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// fdb is the forwarding database: (VLAN, MAC) → port.
//
// # Form
//
// A table of fixed size, allocated once: buckets of eight slots, two candidate buckets per key, seeded hash.
// It is twice as large as the entries it may hold, at which load a key finds both its buckets full about never;
// if it does, the key is not learned. No input makes it grow.
//
// # Locking
//
// find takes no lock. Each bucket has a sequence counter, odd while the bucket changes; a reader that sees it
// odd or changed tries again, and after four tries takes mu, so a preempted writer cannot make readers spin.
// Refreshing an entry's age is a plain atomic store, at most one a second, and changes no sequence. Everything
// else (learn, move, remove, age, list) holds mu. BenchmarkFind, on 2 busy cores of an EPYC: 5 ns a find for one
// reader and 11 for each of two at once; sixteen RWMutexes with a map each took 16 and 30, sync.Map 13 and 30.
//
// # Who may be evicted
//
// A port at its cap gives up its own oldest unestablished entry for a new one; an entry is established once it
// has been seen in two different seconds. If the few entries looked at are all established, the new MAC is not
// learned: its frames are flooded, within the limit for unknown unicast. So a flood of invented sources churns
// through the slots that hold invented sources, and hosts that were known stay known. At the cap for the whole
// table the port with most entries gives up one in the same way, an established one if it must.
type fdb struct {
	buckets      []bucket
	mask         uint32
	seed0, seed1 uint64

	mu      sync.Mutex // guards everything below and every change of a bucket but its seen
	cold    []cold
	ports   map[PortID]*portEntries
	count   int // entries in all, static ones included
	maximum int
	ageSecs uint32
	scan    uint32 // next bucket to age
	claims  []int32
	homes   map[uint64]home // of MACs that aged out
}

const (
	ways          = 8
	maxEvictProbe = 16 // entries looked at for one to evict
	tornRetries   = 4
)

type bucket struct {
	seq  atomic.Uint32 // odd: keys and vals are being changed
	_    uint32
	keys [ways]atomic.Uint64 // 0: free
	vals [ways]atomic.Uint64
	seen [ways]atomic.Uint32 // second of boottime
}

// A key is 1<<63 | VLAN<<48 | MAC. The top bit makes it differ from a free slot.
func entryKey(vid uint16, mac MAC) uint64 { return 1<<63 | uint64(vid)<<48 | uint64(mac) }

func keyVID(key uint64) uint16 { return uint16(key>>48) & vidMask }
func keyMAC(key uint64) MAC    { return MAC(key) & Broadcast }

// A value is flags<<32 | port.
type entryValue uint64

const (
	flagStatic  entryValue = 1 << 32 // pinned: never moves, ages or is evicted
	flagFrozen  entryValue = 1 << 33 // moved too often: does not move for a while
	flagClaimed entryValue = 1 << 34 // another port says it has the MAC; see claim.go
)

func (v entryValue) port() PortID { return PortID(v) }

// cold is what of an entry no reader needs: one per slot, without pointers.
type cold struct {
	created     uint32 // second
	prev, next  int32  // the port's entries, oldest first; -1 ends the list
	moves       uint8  // since movesFrom
	movesFrom   uint32 // second
	origin      PortID // that had it at movesFrom, or the TAP if that had it since
	from        PortID // that had it before the TAP last took it; LocalPort: none had
	frozenUntil uint32 // second
	claim       claim
	hostLen     uint8 // 0, 4 or 16
	host        [16]byte
}

type portEntries struct {
	head, tail int32
	n          int // learned entries; static ones are not listed
	limit      int
	hard       bool // over the limit means refused, not just not learned
	full       bool // the limit was met since the last call of takeFull
	homes      int  // aged entries that are remembered; see home.go
	weakHomes  int  // those of them that were seen in one second only
}

func newFDB(maximum int, ageSecs uint32, seed0, seed1 uint64) *fdb {
	n := uint32(1)
	for int(n)*ways < 2*maximum {
		n *= 2
	}
	t := &fdb{
		buckets: make([]bucket, n), mask: n - 1, seed0: seed0, seed1: seed1 | 1,
		cold: make([]cold, int(n)*ways), ports: make(map[PortID]*portEntries), maximum: maximum, ageSecs: ageSecs,
		homes: make(map[uint64]home),
	}
	return t
}

// places returns the two buckets in which key may be.
func (t *fdb) places(key uint64) (a, b uint32) {
	h := t.hash(key)
	return uint32(h) & t.mask, uint32(h>>32) & t.mask
}

// hash returns a hash of key. The folded product is hard to steer without the seeds.
func (t *fdb) hash(key uint64) uint64 {
	hi, lo := bits.Mul64(key^t.seed0, t.seed1)
	return hi ^ lo
}

// find returns the value of key and its slot. It takes no lock unless a writer stands in the way.
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
	v, slot, ok, _ := t.findOnce(key, a, b) // mu is held: no writer, nothing torn
	return v, slot, ok
}

// find returns the way that holds key, or -1. When torn, the answer means nothing.
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

// setValue changes the value of an entry that stays. A single word: readers need no sequence. mu is held.
func (t *fdb) setValue(slot int32, v entryValue) {
	b, w := t.at(slot)
	b.vals[w].Store(uint64(v))
}

// seenAt returns the second in which the entry was last seen.
func (t *fdb) seenAt(slot int32) uint32 {
	b, w := t.at(slot)
	return b.seen[w].Load()
}

// refresh notes that the entry was seen in second sec, and reports whether it was not before. It
// takes no lock; if the slot has meanwhile gone to another key, that one's age is a little wrong,
// which does no harm.
func (t *fdb) refresh(slot int32, sec uint32) (first bool) {
	b, w := t.at(slot)
	if b.seen[w].Load() == sec {
		return false
	}
	b.seen[w].Store(sec)
	return true
}

// setLimit sets how many entries port may have learned, and whether a source beyond them is refused.
func (t *fdb) setLimit(port PortID, limit int, hard bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.port(port)
	p.limit, p.hard = limit, hard
	for p.n > p.limit {
		t.remove(p.head)
	}
}

// setMaximum sets how many entries there may be, and their ageing time. It returns the number it took: no more than
// half of the slots, so that keys keep finding room in their buckets.
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

// insert learns key at port, making room by the rules of fdb. It returns -1 when there is none. The key must
// not be present. mu is held.
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

// makeRoom evicts an entry of the port that has most. A port with fewer than that one's entries, or a static
// entry, may push out even an established one: the table is shared fairly when it is short.
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

// evict removes the unestablished entry seen longest ago among the oldest of p; when there is none and force is
// set, the established one seen longest ago. What is looked at and stays goes to the end of the list, so that the next
// call looks further.
func (t *fdb) evict(p *portEntries, force bool) bool {
	victim, weak := int32(-1), false
	for range min(maxEvictProbe, p.n) {
		slot := p.head
		t.unlink(p, slot)
		t.append(p, slot)
		w := t.seenAt(slot) <= t.cold[slot].created // never seen in a second second
		if victim < 0 || w && !weak || w == weak && t.seenAt(slot) < t.seenAt(victim) {
			victim, weak = slot, w
		}
		if weak {
			break // the list is oldest first: nothing better comes
		}
	}
	if victim < 0 || !weak && !force {
		return false
	}
	t.remove(victim)
	return true
}

// remove forgets the entry in slot. mu is held.
func (t *fdb) remove(slot int32) {
	v := t.value(slot)
	if v&flagStatic == 0 {
		t.unlink(t.port(v.port()), slot)
	}
	b, w := t.at(slot)
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

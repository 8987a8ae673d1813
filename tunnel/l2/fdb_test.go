package l2

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

func newTestFDB(maximum, perPort int, ports ...PortID) *fdb {
	t := newFDB(maximum, 300, 0x1234567, 0x89abcdef)
	for _, id := range ports {
		t.setLimit(id, perPort, false)
	}
	return t
}

// check verifies the bookkeeping of the table.
func (t *fdb) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	count, static := 0, 0
	listed := map[int32]PortID{}
	for id, p := range t.ports {
		n, prev := 0, int32(-1)
		for slot := p.head; slot >= 0; slot = t.cold[slot].next {
			if t.cold[slot].prev != prev {
				return fmt.Errorf("port %d: broken list at slot %d", id, slot)
			}
			listed[slot], prev = id, slot
			if n++; n > p.n {
				break
			}
		}
		if n != p.n || p.tail != prev {
			return fmt.Errorf("port %d: %d listed, %d counted, tail %d, last %d", id, n, p.n, p.tail, prev)
		}
	}
	var err error
	seen := map[uint64]bool{}
	t.each(func(slot int32) {
		count++
		key, v := t.keyAt(slot), t.value(slot)
		if seen[key] {
			err = fmt.Errorf("key %x is there twice", key)
		}
		seen[key] = true
		if v&flagStatic != 0 {
			static++
		} else if id, ok := listed[slot]; !ok || id != v.port() {
			err = fmt.Errorf("slot %d of port %d is listed at %d, %v", slot, v.port(), id, ok)
		}
	})
	if err == nil && (count != t.count || count-static != len(listed) || count > t.maximum) {
		err = fmt.Errorf("%d slots in use, %d counted, %d listed, %d static, at most %d", count, t.count, len(listed), static, t.maximum)
	}
	return err
}

// fdbModel is a straightforward implementation of the table: a map, and the rules of claim.go one
// after the other.
type fdbModel struct {
	entries map[uint64]*modelEntry
	homes   map[uint64]modelHome
	age     time.Duration
}

// modelHome records where an entry was that has aged out.
type modelHome struct {
	port PortID
	seen boottime.Time
}

type modelEntry struct {
	port    PortID
	static  bool
	seen    boottime.Time // in whole seconds
	moves   int
	from    boottime.Time
	origin  PortID
	frozen  boottime.Time
	claimBy PortID
	claimAt boottime.Time
	until   boottime.Time
	refuse  boottime.Time
}

func floorSecond(t boottime.Time) boottime.Time { return t / 1e9 * 1e9 }

func (m *fdbModel) learn(key uint64, port PortID, now boottime.Time) drop.Reason {
	e := m.entries[key]
	switch {
	case e == nil:
		h, aged := m.homes[key]
		delete(m.homes, key)
		if aged && port != LocalPort && port != h.port {
			e = &modelEntry{port: h.port, seen: h.seen}
			e.claim(port, now)
			m.entries[key] = e
			return drop.SourceForeign
		}
		m.entries[key] = &modelEntry{port: port, seen: floorSecond(now)}
		return drop.None
	case e.port == port:
		e.seen = floorSecond(now)
		if e.claimAt != 0 && now.Sub(e.claimAt) >= claimGrace {
			e.claimAt, e.refuse = 0, now.Add(claimBackoff)
		}
		return drop.None
	case e.static:
		return drop.SourceForeign
	case e.frozen != 0:
		return drop.MACFrozen
	case port == LocalPort:
		m.move(e, port, now)
		return drop.None
	case e.claimAt != 0:
		if e.claimBy == port && !now.Before(e.until) {
			m.move(e, port, now)
			if e.port != port {
				return drop.MACFrozen
			}
			return drop.None
		}
		return drop.SourceForeign
	}
	if !now.Before(e.refuse) {
		e.claim(port, now)
	}
	return drop.SourceForeign
}

func (m *fdbModel) move(e *modelEntry, port PortID, now boottime.Time) {
	sec := floorSecond(now)
	if e.moves == 0 || sec.Sub(e.from) >= freezeWindow*time.Second {
		e.moves, e.from, e.origin = 0, sec, e.port
	}
	if e.port == LocalPort || port == LocalPort {
		e.origin = LocalPort
	}
	if e.moves++; e.moves >= freezeMoves {
		port = e.origin
	}
	e.port, e.seen, e.claimAt, e.refuse = port, sec, 0, 0
	if e.moves >= freezeMoves {
		e.frozen = sec.Add(freezeDuration * time.Second)
	}
}

// claim starts a claim. Silence decides it after two seconds without a frame, but not at once.
// Hosts in this model have no IP address.
func (e *modelEntry) claim(by PortID, now boottime.Time) {
	heard := e.seen.Add(time.Second) // seen is a whole second
	e.claimBy, e.claimAt = by, now
	e.until = max(now.Add(claimWait), min(now, heard).Add(silentWait))
}

func (m *fdbModel) tick(now boottime.Time) {
	sec := floorSecond(now)
	for key, e := range m.entries {
		if e.claimAt != 0 && !now.Before(e.until) {
			m.move(e, e.claimBy, now)
		}
		thawed := false
		if e.frozen != 0 && sec >= e.frozen {
			e.frozen, e.moves, thawed = 0, 0, true
		}
		if !e.static && e.frozen == 0 && e.claimAt == 0 && !thawed && sec.Sub(e.seen) > m.age {
			m.homes[key] = modelHome{e.port, e.seen}
			delete(m.entries, key)
		}
	}
}

// TestFDB_actsAsTheModel runs random operations, within the limits, against the model.
func TestFDB_actsAsTheModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		f := newTestFDB(256, 256, 0, 1, 2, 3)
		m := &fdbModel{entries: map[uint64]*modelEntry{}, homes: map[uint64]modelHome{}, age: 300 * time.Second}
		now := start
		for step := range 4000 {
			now = now.Add(time.Duration(rng.IntN(300)) * time.Millisecond)
			key := entryKey(uint16(rng.IntN(2)), hostMAC(rng.IntN(40)))
			port := PortID(rng.IntN(4))
			switch op := rng.IntN(100); {
			case op < 85:
				if rng.IntN(3) > 0 && m.entries[key] != nil {
					port = m.entries[key].port // mostly hosts that do not move
				}
				got, want := f.learn(key, port, now).reason, m.learn(key, port, now)
				if got != want {
					t.Fatalf("seed %d step %d: learn(%x, %d) = %v, want %v", seed, step, key, port, got, want)
				}
			case op < 95:
				f.dueClaims(now)
				for range 8 {
					f.age(now) // the whole table
				}
				m.tick(now)
			case op < 96:
				f.pin(key, port, now)
				m.entries[key] = &modelEntry{port: port, static: true, seen: floorSecond(now)}
			case op < 97:
				f.flushPort(port, false)
				for k, e := range m.entries {
					if e.port == port && !e.static {
						delete(m.entries, k)
					} else if e.claimBy == port {
						e.claimAt = 0
					}
					if e.origin == port {
						e.moves = 0
					}
				}
				maps.DeleteFunc(m.homes, func(_ uint64, h modelHome) bool { return h.port == port })
			case op < 98:
				now = now.Add(time.Duration(rng.IntN(200)) * time.Second)
				f.dueClaims(now)
				for range 8 {
					f.age(now)
				}
				m.tick(now)
			default:
				mac := keyMAC(key)
				f.flush(func(e *Entry) bool { return e.MAC == mac })
				for k := range m.entries {
					if keyMAC(k) == mac {
						delete(m.entries, k)
					}
				}
				maps.DeleteFunc(m.homes, func(k uint64, _ modelHome) bool { return keyMAC(k) == mac })
			}
			compareFDB(t, f, m, fmt.Sprintf("seed %d step %d", seed, step))
		}
	}
}

func compareFDB(t *testing.T, f *fdb, m *fdbModel, when string) {
	t.Helper()
	if err := f.check(); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if f.count != len(m.entries) {
		t.Fatalf("%s: %d entries, want %d", when, f.count, len(m.entries))
	}
	for key, e := range m.entries {
		v, slot, ok := f.find(key)
		if h, aged := f.homes[key]; aged != (m.homes[key] != modelHome{}) || aged && h.port != m.homes[key].port {
			t.Fatalf("%s: %x was last at %+v, want %+v", when, key, h, m.homes[key])
		}
		if !ok || v.port() != e.port || (v&flagStatic != 0) != e.static || (v&flagFrozen != 0) != (e.frozen != 0) ||
			(v&flagClaimed != 0) != (e.claimAt != 0) || f.seenAt(slot) != second(e.seen) {
			t.Fatalf("%s: %x is %x (%v), seen %d; want %+v", when, key, v, ok, f.seenAt(slot), e)
		}
	}
}

// TestFDB_readersSeeNoHalfEntries runs writers and readers on a small table: any entry found must
// be one that was written.
func TestFDB_readersSeeNoHalfEntries(t *testing.T) {
	t.Parallel()
	f := newTestFDB(64, 64, 1, 2, 3, 4)
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 20_000 {
				// Host n lives at port 1+n%4 and nowhere else: anything else found is a torn read.
				n := (i*7 + w*13) % 500
				f.learn(entryKey(0, hostMAC(n)), PortID(1+n%4), start)
				if i%50 == 0 {
					f.flush(func(e *Entry) bool { return e.MAC%3 == MAC(i%3) })
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for i := range 60_000 {
				n := i % 500
				if v, _, ok := f.find(entryKey(0, hostMAC(n))); ok && v.port() != PortID(1+n%4) {
					t.Errorf("host %d found at port %d", n, v.port())
					return
				}
			}
		})
	}
	wg.Wait()
	if err := f.check(); err != nil {
		t.Error(err)
	}
}

func TestSwitch_entriesPinFlush(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{MACs: []MAC{hostMAC(7)}})
	addPeer(t, s, 2, PortConfig{})
	fromDevice(s, start, eth(Broadcast, hostMAC(1), 0x1234))
	fromPeer(s, start, 2, eth(Broadcast, hostMAC(2), 0x1234))
	if err := s.Pin(start, 0, hostMAC(3), 2); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		vid  uint16
		mac  MAC
		port PortID
		want error
	}{{0, hostMAC(3), 9, ErrNoPort}, {0, Broadcast, 1, ErrBadPin}, {4095, hostMAC(3), 1, ErrBadPin}, {0, hostMAC(7), 2, ErrPinned}} {
		if err := s.Pin(start, c.vid, c.mac, c.port); err != c.want {
			t.Errorf("Pin(%d, %v, %d) = %v, want %v", c.vid, c.mac, c.port, err, c.want)
		}
	}
	want := []Entry{
		{MAC: hostMAC(1), Port: 0, Kind: KindLocal, Age: 5 * time.Second},
		{MAC: hostMAC(2), Port: 2, Kind: KindLearned, Age: 5 * time.Second},
		{MAC: hostMAC(3), Port: 2, Kind: KindStatic},
		{MAC: hostMAC(7), VLAN: AnyVLAN, Port: 1, Kind: KindStatic},
	}
	if got := s.Entries(at(5 * time.Second)); !reflect.DeepEqual(got, want) {
		t.Errorf("entries: %+v\nwant %+v", got, want)
	}
	two := PortID(2)
	if n := s.Flush(Filter{Port: &two}); n != 1 {
		t.Errorf("flushed %d, want the learned one", n)
	}
	if n := s.Flush(Filter{Static: true}); n != 2 {
		t.Errorf("flushed %d, want the local and the static one", n)
	}
	if got := s.Entries(start); len(got) != 1 || got[0].MAC != hostMAC(7) {
		t.Errorf("left: %+v", got)
	}
}

// TestSwitch_entriesNameTheHost: an entry has the IP addresses of its host and says whether its
// port is blocked; a pinned MAC is one entry, wherever it was seen.
func TestSwitch_entriesNameTheHost(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{NeighborSuppression: true})
	pinned, host := hostMAC(1), hostMAC(2)
	addPeer(t, s, 1, PortConfig{MACs: []MAC{pinned}, VLANs: []uint16{0, 10}})
	addPeer(t, s, 2, PortConfig{})
	fromPeer(s, start, 1, gratuitous(t, pinned, "10.0.0.1"))
	fromPeer(s, start, 1, eth(Broadcast, pinned, typeIPv4, 10))
	fromPeer(s, start, 2, gratuitous(t, host, "10.0.0.2"))
	fromPeer(s, start, 2, gratuitous(t, host, "10.0.0.3"))
	s.mu.Lock()
	s.blocks = append(s.blocks, block{port: 2, until: at(time.Hour)})
	s.refresh(2)
	s.mu.Unlock()
	ip := netip.MustParseAddr
	want := []Entry{
		{MAC: host, Port: 2, Kind: KindLearned, Addrs: []netip.Addr{ip("10.0.0.2"), ip("10.0.0.3")}, Blocked: true},
		{MAC: pinned, VLAN: AnyVLAN, Port: 1, Kind: KindStatic, Addrs: []netip.Addr{ip("10.0.0.1")}},
	}
	if got := s.Entries(start); !reflect.DeepEqual(got, want) {
		t.Errorf("entries: %+v\nwant %+v", got, want)
	}
}

package l2

import (
	"math/rand/v2"
	"testing"
	"time"

	"tund/internal/drop"
)

// TestFDB_capsHoldWhateverComes runs random floods with small limits: only entries that were
// learned are ever found, and no limit is exceeded.
func TestFDB_capsHoldWhateverComes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 2))
		f := newTestFDB(200, 64, 1, 2, 3, 4, 5)
		f.setLimit(0, 150, false)
		learnedAt := map[uint64]map[PortID]bool{}
		now := start
		for step := range 20_000 {
			now = now.Add(time.Duration(rng.IntN(30)) * time.Millisecond)
			key, port := entryKey(0, hostMAC(rng.IntN(2000))), PortID(rng.IntN(6))
			if rng.IntN(500) == 0 {
				f.flushPort(port, false)
			}
			if o := f.learn(key, port, now); o.reason == drop.None {
				if learnedAt[key] == nil {
					learnedAt[key] = map[PortID]bool{}
				}
				learnedAt[key][port] = true
			}
			if rng.IntN(20) == 0 {
				due := f.dueClaims(now)
				for _, c := range due.done {
					learnedAt[c.key][c.by] = true
				}
				f.age(now)
			}
			if step%97 == 0 {
				if err := f.check(); err != nil {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
				for id, n := range f.counts() {
					if limit := map[bool]int{true: 150, false: 64}[id == 0]; n > limit {
						t.Fatalf("port %d has %d entries", id, n)
					}
				}
				f.mu.Lock()
				f.each(func(slot int32) {
					if key, port := f.keyAt(slot), f.value(slot).port(); !learnedAt[key][port] {
						t.Fatalf("%x is at port %d, where it never was", key, port)
					}
				})
				f.mu.Unlock()
			}
		}
	}
}

// TestFDB_knownHostsSurviveAFloodOfSources sends 300,000 invented sources through the same port and
// through others.
func TestFDB_knownHostsSurviveAFloodOfSources(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, s, id, PortConfig{})
	}
	const known = 100
	host := func(i int) MAC { return hostMAC(1 + i) }
	portFor := func(i int) PortID { return PortID(i % 4) }
	now := start
	talk := func() {
		for i := range known {
			frame := eth(host((i+1)%known), host(i), 0x1234)
			if id := portFor(i); id == LocalPort {
				fromDevice(s, now, frame)
			} else {
				fromPeer(s, now, id, frame)
			}
		}
	}
	for range 3 {
		talk()
		now = now.Add(time.Second)
	}
	var v Verdict
	warnings := 0
	flood := eth(host(0), 0, 0x1234) // host 0 is local and known, so no storm limit applies
	for i := range 300_000 {
		now = now.Add(10 * time.Microsecond)
		hostMAC(1_000_000 + i).Put(flood[6:])
		if r := s.FromPeer(now, 1, 0, Superpacket{Frame: flood}, &v); r != drop.None {
			t.Fatal(r)
		}
		if i%100_000 == 99_999 {
			talk()
		}
		if i%25_000 == 0 {
			for _, e := range s.Tick(now).Events {
				if e.Kind == EventFull {
					warnings++
				}
			}
		}
	}
	for i := range known {
		if id, ok := portOf(s, 0, host(i)); !ok || id != portFor(i) {
			t.Errorf("host %d is at %d (%v) after the flood, want %d", i, id, ok, portFor(i))
		}
	}
	if n := s.fdb.counts()[1]; n > DefaultMaxPerPort {
		t.Errorf("port 1 has %d entries", n)
	}
	if warnings != 1 {
		t.Errorf("%d warnings, want 1", warnings)
	}
}

func TestFDB_hardLimitRefusesTheSource(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{MaxMACs: 2})
	for i, want := range []drop.Reason{drop.None, drop.None, drop.MACLimit, drop.MACLimit} {
		if _, r := fromPeer(s, at(time.Duration(i)*time.Second), 1, eth(Broadcast, hostMAC(i), 0x1234)); r != want {
			t.Errorf("source %d: %v, want %v", i, r, want)
		}
	}
	if _, r := fromPeer(s, at(4*time.Second), 1, eth(Broadcast, hostMAC(1), 0x1234)); r != drop.None {
		t.Errorf("a learned source: %v", r)
	}
}

// TestFDB_theFullestPortGivesUp fills the table from one port and then learns at another.
func TestFDB_theFullestPortGivesUp(t *testing.T) {
	t.Parallel()
	f := newTestFDB(64, 60, 1, 2)
	for i := range 60 {
		f.learn(entryKey(0, hostMAC(i)), 1, start)
		f.learn(entryKey(0, hostMAC(i)), 1, at(2*time.Second)) // established
	}
	for i := range 40 {
		if o := f.learn(entryKey(0, hostMAC(1000+i)), 2, at(3*time.Second)); o.fresh != (i < 32) {
			t.Fatalf("host %d of port 2: learned is %v; half of the table is its share", i, o.fresh)
		}
		f.learn(entryKey(0, hostMAC(1000+i)), 2, at(5*time.Second))
	}
	if n := f.counts(); n[1] != 32 || n[2] != 32 {
		t.Errorf("entries by port: %v", n)
	}
	if err := f.check(); err != nil {
		t.Error(err)
	}
}

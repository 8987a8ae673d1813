package l2

import (
	"testing"
	"time"
)

// probed returns how many probes the site sends to its LAN while the simulation runs for d.
func (w *sim) probed(s *site, d time.Duration) (n int) {
	spy := func(frame []byte) {
		if h, ok := Parse(frame); ok && h.EtherType == typeProbe && h.Src == s.sw.mac {
			n++
		}
	}
	s.lan.spies = append(s.lan.spies, spy)
	w.run(d)
	s.lan.spies = s.lan.spies[:len(s.lan.spies)-1]
	return n
}

// merge plugs in a cable by which the LAN of site b becomes part of the LAN of site a.
func (w *sim) merge(a, b *site) {
	old := b.lan
	a.lan.sites, a.lan.hosts = append(a.lan.sites, old.sites...), append(a.lan.hosts, old.hosts...)
	for _, s := range old.sites {
		s.lan = a.lan
	}
	for _, h := range old.hosts {
		h.lan = a.lan
	}
	old.sites, old.hosts = nil, nil
}

// A LAN on which nothing is suspicious gets a probe each restInterval, however much its hosts talk,
// and also if another tunnel, which leads elsewhere, has the same LAN.
func TestProbeRate_rest(t *testing.T) { worlds(t, checkProbeRateRest) }

func checkProbeRateRest(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb, lc := &lan{}, &lan{}, &lan{}
	a, b := w.site("A", la, Config{}), w.site("B", lb, Config{})
	c, d := w.site("C", la, Config{}), w.site("D", lc, Config{})
	hosts := []*simHost{w.host(la, 1), w.host(lb, 2), w.host(lc, 3)}
	w.connect(a, b)
	w.connect(c, d)
	w.run(2 * watchTime)
	var talk func()
	talk = func() {
		for _, h := range hosts {
			w.announce(h)
		}
		w.after(300*time.Millisecond, talk)
	}
	talk()
	for _, s := range []*site{a, b, d} {
		if n := w.probed(s, 4*restInterval); n < 4 || n > 5 {
			t.Errorf("%s sends %d probes in %v, want one each %v", s.name, n, 4*restInterval, restInterval)
		}
	}
	if n := a.blockedPorts(w) + c.blockedPorts(w); n != 0 {
		t.Errorf("%d ports are blocked", n)
	}
}

// A cable joins two LANs that have been at rest for long. The first broadcast that travels round
// betrays it; if there is none, the next round of probes finds it. Both ends block.
func TestProbeRate_aLoopAfterARest(t *testing.T) { worlds(t, checkLoopAfterARest) }

func checkLoopAfterARest(t *testing.T, seed int) {
	for _, c := range []struct {
		name    string
		speaks  bool
		atFirst bool // the host has never been heard before
		within  time.Duration
	}{
		{"a known host speaks", true, false, ProbeInterval / 2},
		{"a new host speaks", true, true, ProbeInterval / 2},
		{"nobody speaks", false, false, restInterval + ProbeInterval},
	} {
		w := newSim(t, seed)
		la, lb := &lan{}, &lan{}
		a, b := w.site("A", la, Config{}), w.site("B", lb, Config{})
		h1, h2 := w.host(la, 1), w.host(lb, 2)
		w.connect(a, b)
		if !c.atFirst {
			w.announce(h1)
			w.announce(h2)
		}
		w.run(2*time.Minute + time.Duration(seed)*170*time.Millisecond)
		w.merge(a, b)
		if c.speaks {
			w.announce(h1)
		}
		w.run(c.within)
		if a.blockedPorts(w) != 1 || b.blockedPorts(w) != 1 {
			t.Fatalf("%s: after %v %d ports are blocked at A, %d at B\n%s", c.name, c.within, a.blockedPorts(w), b.blockedPorts(w), w.dump())
		}
		// They stay blocked as long as the cable is there.
		for range 100 {
			w.run(ProbeInterval)
			if a.blockedPorts(w) != 1 || b.blockedPorts(w) != 1 {
				t.Fatalf("%s: the loop opens again\n%s", c.name, w.dump())
			}
		}
	}
}

// The LANs of two sites that are not each other's peers become one, long after both have started.
// A third site has the broadcasts of a host twice from then on, although no host of its own says
// anything, and blocks one of the two within three seconds, for as long as they are one LAN.
func TestProbeRate_twoLANsBecomeOne(t *testing.T) { worlds(t, checkTwoLANsBecomeOne) }

func checkTwoLANsBecomeOne(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb, lc := &lan{}, &lan{}, &lan{}
	a, b, c := w.site("A", la, Config{}), w.site("B", lb, Config{}), w.site("C", lc, Config{})
	w.connect(c, a)
	w.connect(c, b)
	h1, h2, h3 := w.host(la, 1), w.host(lb, 2), w.host(lc, 3)
	for _, h := range []*simHost{h1, h2, h3} {
		w.announce(h)
	}
	w.run(2 * time.Minute)
	w.merge(a, b)
	var talk func()
	talk = func() {
		w.announce(h1)
		w.announce(h2)
		w.after(200*time.Millisecond, talk)
	}
	talk()
	w.run(3 * time.Second)
	for range 100 {
		if n := c.blockedPorts(w); n != 1 {
			t.Fatalf("%d ports are blocked at C, want 1\n%s", n, w.dump())
		}
		w.run(ProbeInterval)
	}
}

// A host that migrates between two sites is no reason to think that their LANs are one.
func TestProbeRate_aMigrationAccusesNobody(t *testing.T) { worlds(t, checkMigrationAccusesNobody) }

func checkMigrationAccusesNobody(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb, lc := &lan{}, &lan{}, &lan{}
	a, b, c := w.site("A", la, Config{}), w.site("B", lb, Config{}), w.site("C", lc, Config{})
	w.mesh(a, b, c)
	vm := w.host(la, 1)
	w.announce(vm)
	w.run(2 * time.Minute)
	for i := range 4 {
		w.move(vm, []*lan{lb, la}[i%2])
		w.announce(vm)
		w.run(time.Minute)
		if len(c.sw.pairs)+len(c.sw.tests) > 0 {
			t.Fatalf("C suspects %v", c.sw.pairs)
		}
	}
}

// What a peer can achieve by using the MACs of others is bounded: so many suspicions, and so many
// tests of the LAN of the victim.
func TestProbeRate_suspicionsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	newProber(1).keyed([16]byte{1}).joins(t, s, 1, true)
	newProber(2).keyed([16]byte{2}).joins(t, s, 2, true)
	for vid := range uint16(1000) {
		s.suspectPair(start, 1, 2, vid)
	}
	if n := len(s.pairs); n != maxSeenBy {
		t.Errorf("%d suspicions, want %d", n, maxSeenBy)
	}
	tests := 0
	for d := time.Duration(0); d < time.Minute; d += 100 * ms {
		s.suspectPair(at(d), 1, 2, 0)
		for _, m := range s.Tick(at(d)).ToPeers {
			if kind, body, ok := parseControl(m.Payload); ok && kind == controlJoinTest && m.Port == 1 && body[0] == 0 && body[1] == 0 {
				tests++
			}
		}
	}
	if want := fastTests + int(time.Minute/testSlow); tests > want {
		t.Errorf("the victim was tested %d times in a minute, want at most %d", tests, want)
	}
	for d := time.Minute; d < time.Minute+2*holdTime; d += TickInterval {
		s.Tick(at(d))
	}
	if len(s.pairs) != 0 || s.ports[1].seenBy+s.ports[2].seenBy != 0 {
		t.Errorf("%d suspicions are left, %d and %d are counted", len(s.pairs), s.ports[1].seenBy, s.ports[2].seenBy)
	}
}

// With more VLANs than are probed in one interval, a round at rest takes turns, and then rests too.
func TestProbeRate_manyVLANs(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	p := newProber(1).keyed([16]byte{1})
	p.joins(t, s, 1, true)
	var vlans []uint16
	for v := range uint16(200) {
		vlans = append(vlans, v)
	}
	if err := s.SetPort(1, PortConfig{Ethernet: true, VLANs: vlans}); err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]int{}
	for d := time.Duration(0); d < 2*watchTime+4*restInterval; d += TickInterval {
		for _, f := range s.Tick(at(d)).ToDevice {
			if h, _ := Parse(f); h.EtherType == typeProbe && d > 2*watchTime {
				vid, _ := s.view.Load().local.vlans.ingress(&h)
				seen[vid]++
			}
		}
	}
	for _, vid := range vlans {
		if n := seen[vid]; n < 3 || n > 5 {
			t.Errorf("VLAN %d has been probed %d times in %v", vid, n, 4*restInterval)
		}
	}
}

// The bridge of the TAP gets another port, by which a loop may have come into being.
func TestProbeRate_aNewPortOfTheBridge(t *testing.T) {
	t.Parallel()
	for _, fixed := range []bool{true, false} {
		s := newSwitch(t, Config{})
		newProber(1).keyed([16]byte{1}).joins(t, s, 1, true)
		for d := time.Duration(0); d < 2*watchTime; d += TickInterval {
			s.Tick(at(d))
		}
		s.AddStations(at(2*watchTime), []Station{{MAC: hostMAC(1), Fixed: fixed}})
		probes := 0
		for _, f := range s.Tick(at(2 * watchTime)).ToDevice {
			if h, _ := Parse(f); h.EtherType == typeProbe {
				probes++
			}
		}
		if probes != b2i(fixed) {
			t.Errorf("address of a port %v: %d probes", fixed, probes)
		}
	}
}

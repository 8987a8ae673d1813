package l2

import (
	"strings"
	"testing"
	"time"
)

// blockedPorts returns how many ports of the site the loop guard blocks.
func (s *site) blockedPorts(w *sim) int {
	n := 0
	for _, p := range s.sw.Ports(w.now) {
		n += len(p.Blocked)
	}
	return n
}

func (w *sim) dump() string { return strings.Join(w.log, "\n") }

func TestSim_threeSitesAreOneLAN(t *testing.T) { worlds(t, checkSimthreeSitesAreOneLAN) }

func checkSimthreeSitesAreOneLAN(t *testing.T, seed int) {
	for _, hub := range []bool{false, true} {
		w := newSim(t, seed)
		lans := [3]*lan{{}, {}, {}}
		var sites [3]*site
		var hosts [3]*simHost
		for i := range lans {
			sites[i] = w.site(string(rune('A'+i)), lans[i], Config{Hub: hub && i == 0, NeighborSuppression: true})
			hosts[i] = w.host(lans[i], i+1)
		}
		w.connect(sites[0], sites[1])
		w.connect(sites[0], sites[2])
		if !hub {
			w.connect(sites[1], sites[2])
		}
		w.run(time.Second)
		for _, a := range hosts {
			w.announce(a)
		}
		w.run(time.Second)
		for _, a := range hosts {
			for _, b := range hosts {
				if a != b {
					if n := w.reaches(a, b); n != 1 {
						t.Errorf("hub %v: %v reaches %v %d times\n%s", hub, a.mac, b.mac, n, w.dump())
					}
				}
			}
		}
		w.run(30 * time.Second)
		for _, s := range sites {
			if n := s.blockedPorts(w); n > 0 {
				t.Errorf("hub %v: %s blocks %d ports without a loop\n%s", hub, s.name, n, w.dump())
			}
		}
	}
}

// TestSim_backDoorIsCutAndHeals: a cable joins the LANs of two sites into one while hosts
// broadcast.
func TestSim_backDoorIsCutAndHeals(t *testing.T) { worlds(t, checkSimbackDoorIsCutAndHeals) }

func checkSimbackDoorIsCutAndHeals(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb := &lan{}, &lan{}
	a, b := w.site("A", la, Config{}), w.site("B", lb, Config{})
	h1, h2 := w.host(la, 1), w.host(lb, 2)
	w.connect(a, b)
	w.run(3 * time.Second)
	w.announce(h1)
	w.announce(h2)
	w.run(time.Second)
	// The cable is plugged in: everybody on LAN B is now on LAN A.
	b.lan, h2.lan = la, la
	la.sites, la.hosts = append(la.sites, b), append(la.hosts, h2)
	lb.sites, lb.hosts = nil, nil
	cut := w.now
	in := a.in + b.in
	w.announce(h1)
	for w.now.Sub(cut) < 6*time.Second {
		w.run(100 * time.Millisecond)
	}
	through := a.in + b.in - in
	if limit := 2 * 6 * (DefaultBroadcastLimit + DefaultBroadcastLimit/4); through > limit {
		t.Errorf("%d frames passed while the loop stood, limit %d", through, limit)
	}
	// Both block, although one would be enough.
	if a.blockedPorts(w) != 1 || b.blockedPorts(w) != 1 {
		t.Fatalf("after 6 s %d ports are blocked at A, %d at B\n%s", a.blockedPorts(w), b.blockedPorts(w), w.dump())
	}
	in = a.in + b.in
	w.announce(h1)
	w.run(5 * time.Second)
	if got := a.in + b.in - in; got != 0 {
		t.Errorf("%d frames passed after the cut", got)
	}
	if n := w.reaches(h1, h2); n != 1 {
		t.Errorf("on the one LAN, a frame arrived %d times", n)
	}
	// The cable is pulled.
	la.sites, la.hosts = la.sites[:1], la.hosts[:1]
	b.lan, h2.lan = lb, lb
	lb.sites, lb.hosts = []*site{b}, []*simHost{h2}
	w.run(holdTime + time.Second)
	if a.blockedPorts(w)+b.blockedPorts(w) != 0 {
		t.Fatalf("not healed\n%s", w.dump())
	}
	w.announce(h1)
	w.announce(h2)
	w.run(time.Second)
	if w.reaches(h1, h2) != 1 || w.reaches(h2, h1) != 1 {
		t.Errorf("healed, but the hosts do not reach each other\n%s", w.dump())
	}
}

// TestSim_secondInstanceBetweenTheSameSites covers the other way to bridge twice: two pairs of
// daemons that do not know each other.
func TestSim_secondInstanceBetweenTheSameSites(t *testing.T) {
	worlds(t, checkSimsecondInstanceBetweenTheSameSites)
}

func checkSimsecondInstanceBetweenTheSameSites(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb := &lan{}, &lan{}
	h1, h2 := w.host(la, 1), w.host(lb, 2)
	a1, b1 := w.site("A1", la, Config{}), w.site("B1", lb, Config{})
	w.connect(a1, b1)
	w.run(3 * time.Second)
	a2, b2 := w.site("A2", la, Config{}), w.site("B2", lb, Config{})
	w.connect(a2, b2)
	w.announce(h1)
	w.announce(h2)
	w.run(6 * time.Second)
	blocked := 0
	for _, s := range w.sites {
		blocked += s.blockedPorts(w)
	}
	if blocked == 0 {
		t.Fatalf("nothing is blocked\n%s", w.dump())
	}
	w.run(30 * time.Second)
	in := 0
	for _, s := range w.sites {
		in -= s.in
	}
	w.announce(h1)
	w.run(time.Second)
	for _, s := range w.sites {
		in += s.in
	}
	// The announcement arrives once, as do the probes of the pair that is open.
	if in > 4 {
		t.Errorf("%d frames passed the tunnels for one broadcast\n%s", in, w.dump())
	}
	w.announce(h2)
	w.run(time.Second)
	if n := w.reaches(h1, h2); n != 1 {
		t.Errorf("a frame arrived %d times\n%s", n, w.dump())
	}
	w.disconnect(a2, b2)
	w.run(holdTime + time.Second)
	w.announce(h1)
	w.announce(h2)
	w.run(time.Second)
	if n := w.reaches(h1, h2); n != 1 {
		t.Errorf("second pair gone: a frame arrived %d times\n%s", n, w.dump())
	}
}

// TestSim_redundantGatewaysOfOneSite: B1 and B2 serve one LAN and are both peers of A, with and
// without being peers of each other. One of them is used; when it dies the other takes over within
// a second.
func TestSim_redundantGatewaysOfOneSite(t *testing.T) { worlds(t, checkSimredundantGatewaysOfOneSite) }

func checkSimredundantGatewaysOfOneSite(t *testing.T, seed int) {
	for _, mutual := range []bool{false, true} {
		w := newSim(t, seed)
		la, lb := &lan{}, &lan{}
		a := w.site("A", la, Config{})
		b1, b2 := w.site("B1", lb, Config{}), w.site("B2", lb, Config{})
		ha, hb := w.host(la, 1), w.host(lb, 2)
		w.connect(a, b1)
		w.connect(a, b2)
		if mutual {
			w.connect(b1, b2)
		}
		w.run(5 * time.Second)
		w.announce(ha)
		w.announce(hb)
		w.run(time.Second)
		if x, y := w.reaches(ha, hb), w.reaches(hb, ha); x != 1 || y != 1 {
			t.Fatalf("mutual %v: frames arrived %d and %d times\n%s", mutual, x, y, w.dump())
		}
		alive := b1
		for id, p := range a.peers {
			if p == b1 && (a.sw.view.Load().port(id).blocked != nil) || b1.blockedPorts(w) > 0 {
				alive = b2
			}
		}
		dead := b1
		if alive == b1 {
			dead = b2
		}
		alive, dead = dead, alive // stop the one in use
		for i, s := range lb.sites {
			if s == dead {
				lb.sites = append(lb.sites[:i:i], lb.sites[i+1:]...)
				break
			}
		}
		w.disconnect(a, dead)
		if mutual {
			w.disconnect(alive, dead)
		}
		w.run(900 * time.Millisecond)
		if x, y := w.reaches(ha, hb), w.reaches(hb, ha); x < 1 || y < 1 {
			t.Errorf("mutual %v: a second after the death of %s frames arrive %d and %d times\n%s", mutual, dead.name, x, y, w.dump())
		}
	}
}

func TestSim_ringOfHubsIsCut(t *testing.T) { worlds(t, checkSimringOfHubsIsCut) }

func checkSimringOfHubsIsCut(t *testing.T, seed int) {
	w := newSim(t, seed)
	var sites [3]*site
	var hosts [3]*simHost
	for i := range sites {
		l := &lan{}
		sites[i] = w.site(string(rune('A'+i)), l, Config{Hub: true})
		hosts[i] = w.host(l, i+1)
	}
	w.connect(sites[0], sites[1])
	w.connect(sites[1], sites[2])
	w.connect(sites[2], sites[0])
	w.run(6 * time.Second)
	blocked := 0
	for _, s := range sites {
		blocked += s.blockedPorts(w)
	}
	if blocked != 1 {
		t.Fatalf("%d ports are blocked\n%s", blocked, w.dump())
	}
	for _, h := range hosts {
		w.announce(h)
	}
	w.run(time.Second)
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b {
				if n := w.reaches(a, b); n != 1 {
					t.Errorf("%v reaches %v %d times\n%s", a.mac, b.mac, n, w.dump())
				}
			}
		}
	}
}

func TestSim_movedHostAnswersWithinASecond(t *testing.T) {
	worlds(t, checkSimmovedHostAnswersWithinASecond)
}

func checkSimmovedHostAnswersWithinASecond(t *testing.T, seed int) {
	w := newSim(t, seed)
	lans := [3]*lan{{}, {}, {}}
	var sites [3]*site
	for i := range lans {
		sites[i] = w.site(string(rune('A'+i)), lans[i], Config{NeighborSuppression: true})
	}
	w.connect(sites[0], sites[1])
	w.connect(sites[1], sites[2])
	w.connect(sites[0], sites[2])
	vm, here, third := w.host(lans[0], 1), w.host(lans[0], 2), w.host(lans[2], 3)
	w.run(time.Second)
	for _, h := range []*simHost{vm, here, third} {
		w.announce(h)
	}
	w.run(time.Second)
	for round := range 3 {
		to := lans[(round+1)%2] // A → B → A → B
		w.move(vm, to)
		w.announce(vm)
		w.run(900 * time.Millisecond)
		for _, h := range []*simHost{here, third} {
			before := vm.heard
			w.say(h, eth(vm.mac, h.mac, 0x1234))
			w.run(50 * time.Millisecond)
			if vm.heard == before {
				t.Errorf("round %d: a frame from %v is lost after 0.9 s\n%s", round, h.mac, w.dump())
			}
		}
		w.run(2 * time.Second)
	}
}

// told returns the keys that the switch has disclosed to its peers.
func (s *Switch) told() (keys []*[16]byte) {
	for _, p := range s.ports {
		keys = append(keys, &p.key)
	}
	return keys
}

// TestLoop_theBlockFollowsTheCable: hosts are reached through the second path at once, because the
// bridge forgets what it knew at the TAP. When the probes stop, the port opens within three
// seconds; but if that was a mistake, not so soon again.
func TestLoop_theBlockFollowsTheCable(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	p := newProber(99)
	p.joins(t, s, 1, true)
	now := start
	probed := func(times int) (flushed bool) {
		for range times {
			fromDevice(s, now, p.frame(now))
			flushed = s.Tick(now).Flush || flushed
			now = now.Add(ProbeInterval)
		}
		return flushed
	}
	opens := func() time.Duration {
		for d := time.Duration(0); d < 2*holdTime; d += TickInterval {
			s.Tick(now.Add(d - ProbeInterval))
			if len(s.blocks) == 0 {
				now = now.Add(d)
				return d
			}
		}
		t.Fatal("the port does not open")
		return 0
	}
	if !probed(5) {
		t.Error("the bridge keeps what it has learned at the TAP")
	}
	if probed(5) {
		t.Error("the bridge is flushed again and again")
	}
	if d := opens(); d > 3*time.Second {
		t.Errorf("opened after %v", d)
	}
	probed(5)
	if d := opens(); d < holdTime {
		t.Errorf("blocked again, and opened after %v", d)
	}
	now = now.Add(againTime)
	probed(5)
	if d := opens(); d > 3*time.Second {
		t.Errorf("much later: opened after %v", d)
	}
}

package l2

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"tund/internal/drop"
)

// blockedPairs returns the blocked ports, as pairs of port and VLAN.
func blockedPairs(s *Switch) (out [][2]int) {
	for _, b := range s.blocks {
		out = append(out, [2]int{int(b.port), int(b.vid)})
	}
	return out
}

// mesh connects all sites with each other.
func (w *sim) mesh(sites ...*site) {
	for i, a := range sites {
		for _, b := range sites[:i] {
			w.connect(a, b)
		}
	}
}

// hearOnce fails the test unless each other host receives a broadcast of each host exactly once.
func (w *sim) hearOnce(hosts ...*simHost) {
	w.t.Helper()
	for _, from := range hosts {
		before := make([]int, len(hosts))
		for i, h := range hosts {
			before[i] = h.heard
		}
		w.say(from, eth(Broadcast, from.mac, 0x1234))
		w.run(200 * time.Millisecond)
		for i, h := range hosts {
			want := 1
			if h == from {
				want = 0
			}
			if n := h.heard - before[i]; n != want {
				w.t.Errorf("at %v: %v hears the broadcast of %v %d times, want %d\n%s", w.now, h.mac, from.mac, n, want, w.dump())
			}
		}
	}
}

// allReach fails the test unless a frame from each host to each arrives exactly once.
func (w *sim) allReach(hosts ...*simHost) {
	w.t.Helper()
	for _, from := range hosts {
		for _, to := range hosts {
			if from == to {
				continue
			}
			before := to.heard
			w.say(from, eth(to.mac, from.mac, 0x1234))
			w.run(50 * time.Millisecond)
			if n := to.heard - before; n != 1 {
				w.t.Fatalf("a frame from %v to %v arrived %d times\n%s", from.mac, to.mac, n, w.dump())
			}
		}
	}
}

// A peer's probe on our LAN causes that peer to be blocked, and nobody else.
func TestGateway_aProbeAtTheTAPBlocksItsPeerAlone(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	p := newProber(1)
	p.joins(t, s, 1, true)
	addPeer(t, s, 2, PortConfig{})
	if v, r := fromDevice(s, start, p.frame(start)); r != drop.None || !slices.Equal(outPorts(v), []PortID{2}) {
		t.Errorf("the probe goes to %v (%v), want the other peer", outPorts(v), r)
	}
	if got := blockedPairs(s); !slices.Equal(got, [][2]int{{1, 0}}) {
		t.Fatalf("blocked %v, want port 1 alone", got)
	}
	if v, r := fromDevice(s, start, eth(Broadcast, hostMAC(1), typeIPv4)); !slices.Equal(outPorts(v), []PortID{2}) {
		t.Errorf("a broadcast goes to %v (%v), want port 2", outPorts(v), r)
	}
}

// The block of the other gateway of our LAN outlasts a time in which we ourselves stood still: its
// probes wait to be read. It ends once they are missing while we run.
func TestGateway_standingStillOpensNothing(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	p := newProber(1)
	p.joins(t, s, 1, true)
	addPeer(t, s, 2, PortConfig{})
	now := start
	run := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); now = now.Add(TickInterval / 5) {
			s.Tick(now)
		}
	}
	for range 10 {
		fromDevice(s, now, p.frame(now))
		run(quickInterval)
	}
	now = now.Add(2 * time.Second)
	s.Tick(now)
	if got := blockedPairs(s); !slices.Equal(got, [][2]int{{1, 0}}) {
		t.Errorf("after standing still: blocked %v, want port 1", got)
	}
	run(quickQuiet + TickInterval)
	if got := blockedPairs(s); len(got) != 0 {
		t.Errorf("without probes: blocked %v", got)
	}
}

// redundantMesh returns a full mesh of two gateways of one LAN and two other sites.
func redundantMesh(t *testing.T, seed int) (w *sim, gateways, others []*site, hosts []*simHost) {
	w = newSim(t, seed)
	la, lc, ld := &lan{}, &lan{}, &lan{}
	gateways = []*site{w.site("A1", la, Config{}), w.site("A2", la, Config{})}
	others = []*site{w.site("C", lc, Config{}), w.site("D", ld, Config{})}
	hosts = []*simHost{w.host(la, 1), w.host(lc, 2), w.host(ld, 3), w.host(la, 4)}
	return w, gateways, others, hosts
}

// active returns the gateway that the keys select, and the other one.
func active(gateways []*site) (active, standby *site) {
	if bytes.Compare(gateways[0].key[:], gateways[1].key[:]) < 0 {
		return gateways[0], gateways[1]
	}
	return gateways[1], gateways[0]
}

// blocks reports whether the site has blocked the port of that peer.
func (s *site) blocks(peer *site) bool {
	for id, p := range s.peers {
		if p == peer && s.sw.view.Load().port(id).blocked != nil {
			return true
		}
	}
	return false
}

// Two gateways of one LAN and two other sites in a full mesh: within three seconds both other sites
// block the same gateway, although nobody has sent a frame yet, and from then on each broadcast is
// received once.
func TestSim_redundantGatewaysInAMesh(t *testing.T) { worlds(t, checkRedundantMesh) }

func checkRedundantMesh(t *testing.T, seed int) {
	w, gateways, others, hosts := redundantMesh(t, seed)
	w.mesh(append(others, gateways...)...)
	w.run(3 * time.Second)
	first, second := active(gateways)
	for _, s := range others {
		if s.blocks(first) || !s.blocks(second) {
			t.Fatalf("%s blocks %s: %v, %s: %v\n%s", s.name, first.name, s.blocks(first), second.name, s.blocks(second), w.dump())
		}
		if s.blockedPorts(w) != 1 {
			t.Fatalf("%s blocks %d ports", s.name, s.blockedPorts(w))
		}
	}
	for range 20 {
		w.hearOnce(hosts...)
		w.allReach(hosts...)
		w.run(5 * time.Second)
	}
	for _, s := range w.sites {
		for _, e := range s.sw.Entries(w.now) {
			if e.Frozen > 0 {
				t.Errorf("%s has frozen %v", s.name, e.MAC)
			}
		}
	}
}

// quickTakeover is how soon another gateway has taken over. Half a second of it is for hosts that
// it has heard on its LAN through the other one: they are asked for there first.
const quickTakeover = 2 * time.Second

// The gateway in use dies without its sessions noticing: the other takes over at once. When it
// returns it is used again. This happens three times within three minutes, and no host is frozen.
func TestSim_standbyTakesOverFromASilentGateway(t *testing.T) { worlds(t, checkSilentGateway) }

func checkSilentGateway(t *testing.T, seed int) {
	w, gateways, others, hosts := redundantMesh(t, seed)
	w.mesh(append(others, gateways...)...)
	w.run(3 * time.Second)
	for _, h := range hosts {
		w.announce(h)
	}
	w.run(10 * time.Second)
	w.allReach(hosts...)
	first, second := active(gateways)
	for i := range 6 {
		first.dead = true
		w.run(quickTakeover)
		w.allReach(hosts...)
		w.hearOnce(hosts...)
		if i%2 == 0 {
			w.run(20 * time.Second)
			w.allReach(hosts...)
		}
		first.dead = false
		w.tick(first)
		if i%2 == 1 { // and it dies again as soon as it is in use
			for others[0].blocks(first) || !others[0].blocks(second) {
				w.run(10 * time.Millisecond)
			}
			continue
		}
		w.run(3 * time.Second)
		w.hearOnce(hosts...)
		w.allReach(hosts...)
		w.run(20 * time.Second)
	}
}

// The gateway in use loses its uplink, and still serves its LAN, where the other gateway goes on
// hearing its probes: the other takes over at once all the same.
func TestSim_standbyTakesOverWhenTheUplinkIsGone(t *testing.T) { worlds(t, checkUplinkGone) }

func checkUplinkGone(t *testing.T, seed int) {
	w, gateways, others, hosts := redundantMesh(t, seed)
	w.mesh(append(others, gateways...)...)
	w.run(3 * time.Second)
	for _, h := range hosts {
		w.announce(h)
	}
	w.run(10 * time.Second)
	w.allReach(hosts...)
	first, second := active(gateways)
	for range 3 {
		first.away = true
		w.run(quickTakeover)
		w.allReach(hosts...)
		w.hearOnce(hosts...)
		w.run(20 * time.Second)
		w.allReach(hosts...)
		first.away = false
		w.run(3 * time.Second)
		for _, h := range hosts { // it has heard remote hosts on its LAN: they are claimed back
			w.announce(h)
		}
		w.run(3 * time.Second)
		w.hearOnce(hosts...)
		w.allReach(hosts...)
		for _, s := range others {
			if s.blocks(first) || !s.blocks(second) {
				t.Fatalf("the uplink is back, and %s blocks %s: %v, %s: %v", s.name, first.name, s.blocks(first), second.name, s.blocks(second))
			}
		}
		w.run(20 * time.Second)
	}
}

// A claim caused by a looping copy fails once the port is blocked, although the host is silent and
// has no address at which it could be asked.
func TestGateway_claimsOfTheBlockedPortEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why   string
		stale stale
		moves bool
	}{
		{"the blocked port's", stale{port: 1, vid: 0}, false},
		{"the open port's", stale{port: 1, vid: 0, claims: true}, false},
		{"in another VLAN", stale{port: 1, vid: 5}, true},
		{"another port's", stale{port: 2, vid: 0}, true},
	} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{})
		fromDevice(s, start, eth(Broadcast, hostMAC(1), typeIPv4))
		fromPeer(s, start, 1, eth(Broadcast, hostMAC(1), typeIPv4))
		s.mu.Lock()
		s.stale = append(s.stale, c.stale)
		s.mu.Unlock()
		for d := time.Duration(0); d < 2*silentWait; d += TickInterval {
			s.Tick(at(d))
		}
		if id, _ := portOf(s, 0, hostMAC(1)); (id == 1) != c.moves {
			t.Errorf("%s: the host is at port %d", c.why, id)
		}
	}
}

// A cable joins two LANs while there is traffic and a third site is connected to both. Within three
// seconds all hosts reach each other again, and none is frozen.
func TestSim_copiesThatWentAroundAreForgotten(t *testing.T) { worlds(t, checkCopiesForgotten) }

func checkCopiesForgotten(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb, lc := &lan{}, &lan{}, &lan{}
	a, b, c := w.site("A", la, Config{}), w.site("B", lb, Config{}), w.site("C", lc, Config{})
	ha, hb, hc := w.host(la, 1), w.host(lb, 2), w.host(lc, 3)
	w.mesh(a, b, c)
	w.run(time.Second)
	hosts := []*simHost{ha, hb, hc}
	var talk func()
	talk = func() {
		for _, h := range hosts {
			w.announce(h)
		}
		w.after(100*time.Millisecond, talk)
	}
	talk()
	w.run(5*time.Second + time.Duration(seed)*130*time.Millisecond)
	b.lan, hb.lan = la, la
	la.sites, la.hosts = append(la.sites, b), append(la.hosts, hb)
	w.run(3 * time.Second)
	for range 10 {
		w.allReach(hosts...)
		w.hearOnce(hosts...)
		w.run(time.Second)
	}
	for _, s := range w.sites {
		for _, e := range s.sw.Entries(w.now) {
			if e.Frozen > 0 {
				t.Errorf("%s has frozen %v", s.name, e.MAC)
			}
		}
	}
}

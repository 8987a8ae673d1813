package l2

import (
	"strings"
	"testing"
	"time"

	"tund/internal/drop"
)

// leaves stops a site as its operator does: it says goodbye to its peers, and its TAP is gone.
func (w *sim) leaves(s *site) {
	for _, m := range s.sw.Goodbye(w.now) {
		w.toPeer(s, m.Port, m.Payload)
	}
	s.dead = true
	w.after(tunnelDelay, func() {
		for _, p := range s.peers {
			for id, q := range p.peers {
				if q == s {
					p.sw.SetPortUp(id, false, w.now)
					delete(p.peers, id)
					w.tick(p)
				}
			}
		}
		clear(s.peers)
	})
}

// longestPause has two hosts send each other a frame every 10 ms for d, and returns the longest
// time for which one of them heard nothing.
func (w *sim) longestPause(d time.Duration, a, b *simHost) (longest time.Duration) {
	const beat = 10 * time.Millisecond
	hosts := [2]*simHost{a, b}
	var heard [2]int
	var silent [2]time.Duration
	for i, h := range hosts {
		heard[i] = h.heard
	}
	for end := w.now.Add(d); w.now.Before(end); {
		w.say(a, eth(b.mac, a.mac, 0x1234))
		w.say(b, eth(a.mac, b.mac, 0x1234))
		w.run(beat)
		for i, h := range hosts {
			if silent[i] += beat; h.heard != heard[i] {
				heard[i], silent[i] = h.heard, 0
			}
			longest = max(longest, silent[i])
		}
	}
	return longest
}

// Two hosts talk through the gateway in use when it stops, dies or loses its uplink. TCP sends what
// is lost again after 0.2, 0.6, 1.4 and 3.0 seconds: what is announced has to be over before the
// first of them, and the rest before the third.
func TestSim_takeoverIsOverBeforeTCPTriesAgain(t *testing.T) { worlds(t, checkTakeoverIsQuick) }

func checkTakeoverIsQuick(t *testing.T, seed int) {
	for _, c := range []struct {
		how   string
		limit time.Duration
		do    func(*sim, *site)
	}{
		{"stops", 190 * time.Millisecond, (*sim).leaves},
		{"dies", 1300 * time.Millisecond, func(_ *sim, s *site) { s.dead = true }},
		{"loses its uplink", 1300 * time.Millisecond, func(_ *sim, s *site) { s.away = true }},
	} {
		w, gateways, others, hosts := redundantMesh(t, seed)
		w.mesh(append(others, gateways...)...)
		w.run(3 * time.Second)
		for _, h := range hosts {
			w.announce(h)
		}
		w.run(10*time.Second + time.Duration(seed)*130*time.Millisecond)
		first, _ := active(gateways)
		if p := w.longestPause(time.Second, hosts[0], hosts[1]); p > 20*ms {
			t.Fatalf("the hosts hear nothing for %v with all gateways up", p)
		}
		c.do(w, first)
		if p := w.longestPause(5*time.Second, hosts[0], hosts[1]); p > c.limit {
			t.Errorf("seed %d: the gateway %s: the hosts hear nothing for %v, want at most %v\n%s", seed, c.how, p, c.limit, w.dump())
		}
		w.run(100 * ms) // what is under way arrives
		w.hearOnce(hosts...)
	}
}

// When the last other site leaves, two gateways return to probes each second without taking the
// longer interval for the end of their loop.
func TestSim_gatewaysStayApartWhenTheOthersLeave(t *testing.T) { worlds(t, checkGatewaysStayApart) }

func checkGatewaysStayApart(t *testing.T, seed int) {
	w, gateways, others, _ := redundantMesh(t, seed)
	w.mesh(append(others, gateways...)...)
	w.run(20 * time.Second)
	for _, s := range others {
		for _, g := range gateways {
			w.disconnect(s, g)
		}
	}
	for began := len(w.log); w.now.Before(start.Add(60 * time.Second)); w.run(10 * time.Millisecond) {
		for _, g := range gateways {
			if g.blockedPorts(w) == 0 {
				t.Fatalf("%s has opened the path to the other gateway:\n%s", g.name, strings.Join(w.log[began:], "\n"))
			}
		}
	}
}

// A probe that is late, or soon after a late one, does not change what a receiver expects.
func TestRhythm_aSingleLateProbeChangesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		gaps []time.Duration
		want time.Duration
	}{
		{[]time.Duration{400 * ms, 400 * ms, 400 * ms, 700 * ms}, quickQuiet},
		{[]time.Duration{400 * ms, 400 * ms, 700 * ms, 200 * ms}, quickQuiet},
		{[]time.Duration{950 * ms, 950 * ms, 1200 * ms, 400 * ms}, quietTime},
		{[]time.Duration{950 * ms, 950 * ms, 400 * ms, 400 * ms}, quickQuiet},
		{[]time.Duration{400 * ms, 400 * ms, 600 * ms, 600 * ms}, 1200 * ms},
	} {
		var r rhythm
		for _, gap := range c.gaps {
			r.follow(gap)
		}
		if got := r.quietAfter(); got != c.want {
			t.Errorf("after gaps %v: %v, want %v", c.gaps, got, c.want)
		}
	}
}

// standbyThatOpens returns a switch that stood by for the peer at port 1 and no longer does, in
// whose LAN a host lives: its address is 10.0.0.7.
func standbyThatOpens(t *testing.T) (s *Switch, host MAC) {
	t.Helper()
	s, host = newSwitch(t, Config{}), hostMAC(7)
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	newProber(3).joins(t, s, 3, true)
	fromDevice(s, start, newProber(9).frame(start)) // another switch on the LAN
	s.Control(start, 1, cutMessage(0, cutStandby))
	s.Tick(start)
	fromDevice(s, at(time.Second), gratuitous(t, host, "10.0.0.7"))
	s.Control(at(2*time.Second), 1, cutMessage(0, cutOpen))
	s.Tick(at(2 * time.Second))
	return s, host
}

// A peer claims the address of a host on our LAN just after it has said that we no longer stand by.
// A host that answers keeps the address. From another peer, the claim is one like any other.
func TestTakeover_aLivingHostKeepsItsAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by      PortID
		answers bool
		moves   bool
	}{{1, false, true}, {1, true, false}, {2, false, false}} {
		s, host := standbyThatOpens(t)
		now := at(2*time.Second + 10*ms)
		if _, r := fromPeer(s, now, c.by, eth(Broadcast, host, typeIPv4)); r != drop.SourceForeign {
			t.Fatalf("the first frame from elsewhere: %v", r)
		}
		for d := time.Duration(0); d <= doubtWait; d += 5 * ms {
			for _, f := range s.Tick(now.Add(d)).ToDevice {
				if e, ok := Parse(f); ok && e.EtherType == typeARP && e.Dst == host && c.answers {
					fromDevice(s, now.Add(d+ms), arp(t, 2, s.mac, host, "10.0.0.7", s.mac, "0.0.0.0"))
				}
			}
		}
		if id, _ := portOf(s, 0, host); (id == c.by) != c.moves {
			t.Errorf("claimed by %d, which answers: %v: the host is at port %d", c.by, c.answers, id)
		}
	}
}

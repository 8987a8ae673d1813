package l2

import (
	"testing"
	"time"
)

// relayProbes makes hosts on both LANs pass the loop probes to each other, and nothing else.
func relayProbes(w *sim, a, b *lan) {
	carried := map[string]bool{}
	spy := func(to *lan) func([]byte) {
		return func(frame []byte) {
			if h, _ := Parse(frame); h.EtherType != typeProbe || carried[string(frame)] {
				return
			}
			carried[string(frame)] = true
			w.after(time.Millisecond, func() { w.toLAN(to, frame, nil, nil) })
		}
	}
	a.spies, b.spies = append(a.spies, spy(b)), append(b.spies, spy(a))
}

// Hosts on two LANs carry all the probes across, in both directions. They cut the path between
// these two sites, and no other.
func TestSim_relayedProbesCutNoThirdSite(t *testing.T) { worlds(t, checkRelayedProbes) }

func checkRelayedProbes(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb, lc := &lan{}, &lan{}, &lan{}
	a, b, c := w.site("A", la, Config{}), w.site("B", lb, Config{}), w.site("C", lc, Config{})
	ha, hb, hc := w.host(la, 1), w.host(lb, 2), w.host(lc, 3)
	w.mesh(a, b, c)
	w.run(3 * time.Second)
	for _, h := range []*simHost{ha, hb, hc} {
		w.announce(h)
	}
	relayProbes(w, la, lb)
	for range 20 {
		w.run(3 * time.Second)
		w.allReach(ha, hc)
		w.allReach(hb, hc)
		w.hearOnce(hb, hc)
	}
	if len(c.sw.pairs) == 0 {
		t.Error("the third site never suspected anything: the test shows nothing")
	}
}

// The same with three sites: each pair is cut, which affects only the sites whose LANs cooperated.
// A fourth site reaches all of them.
func TestSim_probesRelayedAmongThree(t *testing.T) { worlds(t, checkRelayedAmongThree) }

func checkRelayedAmongThree(t *testing.T, seed int) {
	w := newSim(t, seed)
	lans := [4]*lan{{}, {}, {}, {}}
	var sites []*site
	var hosts []*simHost
	for i, l := range lans {
		sites = append(sites, w.site(string(rune('A'+i)), l, Config{}))
		hosts = append(hosts, w.host(l, i+1))
	}
	w.mesh(sites...)
	w.run(3 * time.Second)
	for i := range 3 {
		relayProbes(w, lans[i], lans[(i+1)%3])
	}
	for range 5 {
		w.run(3 * time.Second)
		for _, h := range hosts[:3] {
			w.announce(h)
			w.run(100 * time.Millisecond)
			w.allReach(h, hosts[3])
		}
	}
}

// M is a peer of two gateways under a different name each, and of an honest site V. M sends the
// probes of each name through the other gateway: at most it cuts itself off.
func TestSim_lyingPeerOfTwoGateways(t *testing.T) { worlds(t, checkLyingPeer) }

func checkLyingPeer(t *testing.T, seed int) {
	w := newSim(t, seed)
	lt, lv, lm := &lan{}, &lan{}, &lan{}
	t1, t2 := w.site("T1", lt, Config{}), w.site("T2", lt, Config{})
	v, m := w.site("V", lv, Config{}), w.site("M", lm, Config{})
	ht, hv := w.host(lt, 1), w.host(lv, 2)
	w.connect(v, t1)
	w.connect(v, t2)
	w.connect(m, v)
	_, q1 := w.connect(m, t1)
	_, q2 := w.connect(m, t2)
	w.run(5 * time.Second)
	w.announce(ht)
	w.announce(hv)
	w.run(time.Second)
	secret := [16]byte{7}
	say := func(s *site, port PortID, node uint64) {
		h := Hello{Version: 1, Ethernet: true, MTU: 1500, Node: node, Secret: secret, Clock: second(w.now)}
		s.sw.Control(w.now, port, h.Append(nil))
		w.tick(s)
	}
	var attack func()
	attack = func() {
		say(t1, q1, 1)
		say(t2, q2, 2)
		for i, s := range []*site{t1, t2} {
			liar := &prober{Switch: &Switch{node: uint64(2 - i), secret: secret}}
			f := liar.frame(w.now)
			b := make([]byte, FrameHeaderLen)
			PutFrameHeader(b, 0, len(f))
			w.arrive(s, []PortID{q1, q2}[i], append(b, f...))
		}
		w.after(500*time.Millisecond, attack)
	}
	attack()
	w.run(5 * time.Second)
	for range 10 {
		if there, back := w.reaches(ht, hv), w.reaches(hv, ht); there != 1 || back != 1 {
			t.Fatalf("between the honest sites %d and %d frames\n%s", there, back, w.dump())
		}
	}
}

// The attacker O has a host on the LAN of P, which sends the probes of O there and takes the probes
// of P to O, which shows them to C. Without carrying broadcasts, this gets P blocked nowhere,
// whichever of the two has the greater key.
func TestSim_accompliceOnAnotherLAN(t *testing.T) { worlds(t, checkAccomplice) }

func checkAccomplice(t *testing.T, seed int) {
	w := newSim(t, seed)
	lo, lp, lc := &lan{}, &lan{}, &lan{}
	o, p, c := w.site("O", lo, Config{}), w.site("P", lp, Config{}), w.site("C", lc, Config{})
	hp, hc := w.host(lp, 1), w.host(lc, 2)
	w.mesh(o, p, c)
	w.run(time.Second)
	seen := map[string]bool{}
	lp.spies = append(lp.spies, func(frame []byte) { // the accomplice
		if h, _ := Parse(frame); h.EtherType == typeProbe && !seen[string(frame)] {
			seen[string(frame)] = true
			b := make([]byte, FrameHeaderLen)
			PutFrameHeader(b, 0, len(frame))
			for id, peer := range o.peers {
				if peer == c {
					w.toPeer(o, id, append(b, frame...))
				}
			}
		}
	})
	lo.spies = append(lo.spies, func(frame []byte) {
		if h, _ := Parse(frame); h.EtherType == typeProbe && !seen[string(frame)] {
			seen[string(frame)] = true
			w.toLAN(lp, frame, nil, nil)
		}
	})
	for range 10 {
		w.announce(hp)
		w.announce(hc)
		w.run(3 * time.Second)
		w.allReach(hp, hc)
		if c.blocks(p) || p.blocks(c) {
			t.Fatalf("P is blocked\n%s", w.dump())
		}
	}
	if len(c.sw.pairs) == 0 {
		t.Error("C never suspected anything: the test shows nothing")
	}
}

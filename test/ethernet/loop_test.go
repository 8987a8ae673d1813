package ethernet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// backDoor joins the bridges of two sites by a cable that nobody should have plugged in. It returns
// what unplugs it.
func backDoor(t *testing.T, a, b *site) (unplug func()) {
	t.Helper()
	nameA, nameB := testnet.Veth(t, a.NS, b.NS, nil, nil)
	a.NS.Run(t, "ip", "link", "set", nameA, "master", "br0")
	b.NS.Run(t, "ip", "link", "set", nameB, "master", "br0")
	return func() { a.NS.Run(t, "ip", "link", "del", nameA) }
}

// crossed is how many frames the TAP of a site has carried, both ways.
func crossed(s *site) uint64 {
	d := s.tapDevice()
	return d.RxPackets + d.TxPackets
}

// Two sites that are bridged twice: the loop is cut within three seconds, what circles until then
// never passes the storm limit, and when the second way goes the first opens again.
func TestLoop_twoSitesBridgedTwice(t *testing.T) {
	beside(t)
	const limit = 1000 // the default, of broadcast frames a second
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	a.pings(b.v4, 2)
	watch, port := b.raw(), a.raw()

	unplug := backDoor(t, berlin, paris)
	began := time.Now()
	// A broadcast a millisecond for as long as the loop stands, as ARP and DHCP and mDNS would be.
	cut := func() bool { return berlin.Lines("loop", "blocked")+paris.Lines("loop", "blocked") > 0 }
	arrived, carried, second := 0, crossed(paris), time.Now()
	worst := 0.0
	var took time.Duration
	for n := 0; !cut() || time.Since(began) < took+time.Second; n++ {
		port.send(plainFrame(l2.Broadcast, a.mac, "storm"))
		pause(time.Millisecond)
		if took == 0 && cut() {
			took = time.Since(began)
		}
		if elapsed := time.Since(second); elapsed > 500*time.Millisecond {
			asked := time.Now()
			now := crossed(paris)
			// To ask takes time, too, in which frames go on.
			elapsed = time.Since(second)
			// A second's worth may come at once.
			worst = max(worst, float64(now-carried)/(elapsed.Seconds()+1))
			carried, second = now, asked
			arrived += watch.drain()
		}
		if time.Since(began) > 15*time.Second {
			t.Fatal("the loop is not cut")
		}
	}
	t.Logf("cut after %v; at worst %.0f frames a second through the tunnel", took.Round(time.Millisecond), worst)
	if took > 3*time.Second {
		t.Errorf("the loop was cut after %v, want at most 3 s", took)
	}
	if worst > 2*limit*1.1 { // each direction has a limit
		t.Errorf("%.0f frames a second went through the tunnel, want at most %d each way", worst, limit)
	}
	testnet.Await(t, "silence after the loop was cut", 3*time.Second, func() bool {
		watch.drain()
		pause(200 * time.Millisecond)
		return watch.drain() < 20
	})
	if warnings(berlin, "loop")+warnings(paris, "loop") == 0 {
		t.Error("no warning in the status of either site")
	}
	// Over the back door, although the hosts have each other's addresses in their ARP tables and
	// the bridges had these at the TAPs.
	a.reaches(b.v4, slowly(3*time.Second))
	a.pings(b.v4, 5)

	unplug()
	// Opened after 3 s, the last ping waits for a second, and other packages use the processor.
	a.reaches(b.v4, slowly(7*time.Second))
	if berlin.Lines("loop gone")+paris.Lines("loop gone") == 0 {
		t.Error("nobody says that the loop is gone")
	}
	a.pings(b.v4, 5)
}

func warnings(s *site, word string) (n int) {
	for _, w := range s.Status().Warnings {
		if w.Kind == "switch" && strings.Contains(w.Message, word) {
			n++
		}
	}
	return n
}

// awaitWarning waits until status of the site has a warning of the switch that holds the words. The
// log has an event as it happens, status what the last review of the switch found, which is up to a
// second later.
func awaitWarning(t *testing.T, s *site, words string) {
	t.Helper()
	testnet.Await(t, fmt.Sprintf("status of %s warns %q", s.Name, words), 5*time.Second, func() bool {
		return warnings(s, words) > 0
	})
}

// Three sites in a ring of hubs: the ring is cut inside the tunnel, and everybody still reaches
// everybody, once.
func TestLoop_ringOfHubs(t *testing.T) {
	beside(t)
	w := newWAN(t)
	sites := []*site{w.site("berlin"), w.site("paris"), w.site("rome")}
	mesh(sites...)
	var hosts []*host
	for i, s := range sites {
		s.tap = []string{"hub = true"}
		hosts = append(hosts, s.host(i+1))
	}
	start(t, sites...)
	testnet.Await(t, "the ring to be cut", 3*time.Second, func() bool {
		n := 0
		for _, s := range sites {
			n += s.Lines("loop", "blocked")
		}
		return n > 0
	})
	// What was learned while frames circled corrects itself within seconds.
	for _, from := range hosts {
		for _, to := range hosts {
			if from != to {
				from.reaches(to.v4, 8*time.Second)
			}
		}
	}
	for _, from := range hosts {
		for _, to := range hosts {
			if from != to {
				from.pings(to.v4, 3)
			}
		}
	}
}

// Two peers that serve one LAN and do not know each other: the third site takes one of them only.
func TestLoop_twoGatewaysOfALANThatDoNotKnowEachOther(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, first, second := w.site("berlin"), w.site("first"), w.site("second")
	berlin.knows(first)
	berlin.knows(second)
	first.knows(berlin)
	second.knows(berlin)
	a, b := berlin.host(1), first.host(2)
	backDoor(t, first, second)
	start(t, berlin, first, second)
	testnet.Await(t, "one gateway to be blocked", 3*time.Second, func() bool { return berlin.Lines("loop", "blocked") == 1 })
	a.reaches(b.v4, 5*time.Second)
	watch := b.raw()
	a.raw().send(plainFrame(l2.Broadcast, a.mac, "once"))
	watch.expect("broadcast", time.Second, holds("once"))
	watch.never("the same broadcast again", 500*time.Millisecond, holds("once"))
	a.pings(b.v4, 3)
}

package e2e

import (
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// TestRestart_switchGoesOn: over a restart, no echo between the two LANs is lost, and the switch
// knows its addresses at once.
func TestRestart_switchGoesOn(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	for i, g := range []*gateway{p.a, p.b} {
		address := "10.77.0." + string(rune('1'+i)) + "/24"
		g.NS.Run(t, "ip", "link", "add", "br0", "type", "bridge")
		g.NS.Run(t, "ip", "link", "set", "br0", "up")
		g.NS.Run(t, "ip", "address", "add", address, "dev", "br0")
		g.tun = append(g.tun, "[tap]", `device = "lan0"`, `bridge = "br0"`)
		g.peers[0].more = append(g.peers[0].more, "ethernet = true")
	}
	store := storeFor(t, p.b)
	p.start()
	first := startPing(t, p.a.NS, "10.77.0.2", 20*time.Millisecond) // until the switches have met
	first.goesOn("at first", startLimit)
	first.finish()
	waits(t, p.b, "lan0")
	there, back := startPing(t, p.a.NS, "10.77.0.2", time.Millisecond), startPing(t, p.b.NS, "10.77.0.1", time.Millisecond)
	there.goesOn("before the restart", startLimit)
	known := func() int {
		n := 0
		for _, e := range p.b.Status().FDB {
			if e.Port == "paris" {
				n++
			}
		}
		return n
	}
	if known() == 0 {
		t.Error("the switch has learned nothing")
	}
	for range 2 {
		store.restart()
		if known() == 0 {
			t.Error("after a restart the switch knows no address of the other LAN")
		}
		there.goesOn("after the restart", startLimit)
	}
	there.wantNoLoss()
	back.wantNoLoss()
	testnet.Await(t, "both agree", startLimit, func() bool { return !strings.Contains(p.a.says()+p.b.says(), "switch") })
	p.b.Stop()
	p.a.Stop()
}

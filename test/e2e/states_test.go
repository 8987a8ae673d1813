package e2e

import (
	"testing"
	"time"

	"tund/internal/testnet"
)

// TestStates_sendingIsImpossible: keys that are still valid do not make a peer up to which nothing
// can be sent. Its reason names what refuses, and it is up again once that is mended.
func TestStates_sendingIsImpossible(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		spoil, mend  []string
		ipv6         bool
		wordsOfCause []string
	}{
		{name: "own firewall", spoil: []string{"nft", "add table inet fw; add chain inet fw out { type filter hook output priority 0; }; " +
			"add rule inet fw out udp dport 51820 drop"}, mend: []string{"nft", "delete table inet fw"},
			wordsOfCause: []string{"operation not permitted", "firewall of this host", "nft list ruleset"}},
		{name: "no route", spoil: []string{"ip", "route", "del", "192.0.2.0/24", "dev", "eth0"},
			mend:         []string{"ip", "route", "add", "192.0.2.0/24", "dev", "eth0"},
			wordsOfCause: []string{"network is unreachable", "no route there", "ip route get 192.0.2.2"}},
		{name: "route of type unreachable", spoil: []string{"ip", "route", "add", "unreachable", "192.0.2.2"},
			mend: []string{"ip", "route", "del", "unreachable", "192.0.2.2"}, wordsOfCause: []string{"no route to host", "unreachable"}},
		{name: "IPv6 route of type prohibit", ipv6: true, spoil: []string{"ip", "-6", "route", "add", "prohibit", underlayB6},
			mend: []string{"ip", "-6", "route", "del", "prohibit", underlayB6}, wordsOfCause: []string{"permission denied", "prohibit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, c.ipv6)
			p.start()
			forth := startPing(t, p.a.NS, p.endB().v4, 200*time.Millisecond)
			forth.goesOn("at first", startLimit)
			p.a.NS.Run(t, c.spoil...)
			began := time.Now()
			testnet.Await(t, "the cause is named", 3*time.Second, func() bool {
				return containsAll(p.a.Peer("berlin").LastError, c.wordsOfCause)
			})
			p.a.explains("berlin", 20*time.Second, append(c.wordsOfCause, "cannot send to")...)
			t.Logf("down after %v", time.Since(began).Round(time.Millisecond))
			if p.a.Peer("berlin").Drops["send-error"] == 0 {
				t.Error("nothing is counted at the peer")
			}
			p.a.NS.Run(t, c.mend...)
			testnet.Await(t, "the peer is up again", restartLimit, func() bool {
				b := p.a.Peer("berlin")
				return b.State == "up" && b.LastError == ""
			})
			p.a.Stop()
			p.b.Stop()
		})
	}
}

// TestStates_endpointWithoutARouteCostsNothing: of two addresses of a name the first is of a family
// without a route.
func TestStates_endpointWithoutARouteCostsNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.a.peers[0].endpoint, p.a.peers[0].others = endpoint("[2001:db8:ffff::2]"), []string{endpoint(underlayB4)}
	p.b.peers[0].endpoint = ""
	p.start()
	began := time.Now()
	startPing(t, p.a.NS, p.endB().v4, 100*time.Millisecond).goesOn("at all", startLimit)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("answered after %v", took)
	}
	p.a.Stop()
	p.b.Stop()
}

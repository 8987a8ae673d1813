package e2e

import (
	"fmt"
	"testing"
	"time"

	"tund/internal/testnet"
)

// soakPings are 400 seconds of five pings a second: three rekeys at 120, 240 and 360 s.
const soakPings = 2000

func TestSoakRekeys_noPingIsLost(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("tund and tund, PSK=%v", shared), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, shared)
			if shared {
				key := psk(t)
				p.a.peers[0].psk, p.b.peers[0].psk = key, key
			}
			p.start()
			fivePings(t, p)
			for _, g := range []*gateway{p.a, p.b} {
				if n := g.Status().Peers[0].Handshake.Completed; n < 4 || n > 6 {
					t.Errorf("%s completed %d handshakes, want 4: one at the start and three rekeys", g.Name, n)
				}
			}
		})
	}
	for _, initiator := range []string{"tund", "wireguard-go"} {
		t.Run(initiator+" initiates to the other", func(t *testing.T) {
			t.Parallel()
			p := newPair(t, false)
			if initiator == "tund" {
				p.b.peers[0].endpoint = ""
			} else {
				p.a.peers[0].endpoint = ""
			}
			other := replace(t, p.b, wireguardGoMaster(t))
			p.a.start()
			other.start()
			first, to := p.a.NS, p.endB().v4
			if initiator != "tund" {
				first, to = p.b.NS, p.endA().v4
			}
			// The other side does not know where to send before it has heard something.
			ping(t, first, to, 3)
			fivePings(t, p)
			if n := p.a.Peer("berlin").Handshake.Completed; n < 4 || n > 6 {
				t.Errorf("%d handshakes, want 4: one at the start and three rekeys", n)
			}
			if p.a.Peer("berlin").Session.Initiator != (initiator == "tund") {
				t.Errorf("the last rekey was not begun by %s", initiator)
			}
		})
	}
}

// fivePings sends five pings a second from each side, and every one has to be answered.
func fivePings(t *testing.T, p *pair) {
	t.Helper()
	pings := []*pinger{
		startPings(t, p.a.NS, p.endB().v4, 200*time.Millisecond, soakPings),
		startPings(t, p.b.NS, p.endA().v6, 200*time.Millisecond, soakPings),
	}
	for _, ping := range pings {
		sent := <-ping.sent
		ping.settle(sent)
		if answered := ping.answers(); sent != soakPings || answered != sent {
			t.Errorf("ping %s: %d of %d requests answered, not %v", ping.to, answered, sent, ping.missing(sent))
		}
	}
}

func TestSoakTunnel_aGibibyteArrivesAsItWasSent(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	for _, c := range []struct {
		name string
		ipv6 bool
		a, b []string
	}{
		{"over IPv4", false, nil, nil},
		{"over IPv6", true, nil, nil},
		{"without offload on one side", false, nil, []string{`offload = "off"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, c.ipv6)
			p.a.tunnel, p.b.tunnel = c.a, c.b
			p.start()
			saturate(t)
			for _, way := range []struct {
				from, at *testnet.NS
				to       string
			}{{p.a.NS, p.b.NS, p.endB().v4}, {p.b.NS, p.a.NS, p.endA().v6}} {
				t.Logf("to %s: %v", way.to, transfer(t, way.from, way.at, way.to, soakBytes))
			}
			p.a.Stop()
			p.b.Stop()
		})
	}
}

// TestSoakSessions_beginWithoutALoss starts two instances again and again and has both speak at
// once, so that their handshakes cross in every way that chance brings.
func TestSoakSessions_beginWithoutALoss(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	const rounds = 20
	for _, ipv6 := range []bool{false, true} {
		for lane := range 3 {
			t.Run(fmt.Sprintf("underlay IPv6=%v, %d", ipv6, lane), func(t *testing.T) {
				t.Parallel()
				p := newPair(t, ipv6)
				for range rounds {
					p.start()
					pingAll(t, p.endA(), p.endB())
					p.a.Stop()
					p.b.Stop()
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

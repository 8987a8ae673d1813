package e2e

import (
	"fmt"
	"testing"
	"time"

	"tund/internal/testnet"
)

// restartLimit is the time in which traffic has to be back after a restart of one side.
const restartLimit = 6 * time.Second

// silenceLimit is for what wireguard-go mends with a handshake after 15 s of silence. When a
// datagram of before a move reaches it just after, it sends from its old address until then. When
// two initiations reach it at once, two of its workers make one session of both ("Failed to derive
// keypair"), in which nothing can be read.
const silenceLimit = 25 * time.Second

// eachImplementation runs a test with every other implementation, each beside the others.
func eachImplementation(t *testing.T, f func(t *testing.T, program string)) {
	for _, i := range implementations {
		t.Run(i.name, func(t *testing.T) {
			t.Parallel()
			f(t, i.path(t))
		})
	}
}

func TestWireguardGo_eitherSideInitiates(t *testing.T) {
	t.Parallel()
	eachImplementation(t, func(t *testing.T, program string) {
		for _, initiator := range []string{"tund", "wireguard-go"} {
			for _, shared := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s initiates, PSK=%v", initiator, shared), func(t *testing.T) {
					t.Parallel()
					// Over IPv4 without, over IPv6 with: the two have nothing to do with each
					// other.
					p := newPair(t, shared)
					if shared {
						key := psk(t)
						p.a.peers[0].psk, p.b.peers[0].psk = key, key
					}
					from, to := p.endA(), p.endB()
					if initiator == "tund" {
						p.b.peers[0].endpoint = ""
					} else {
						p.a.peers[0].endpoint = ""
						from, to = to, from
					}
					other := replace(t, p.b, program)
					p.a.start()
					other.start()
					ping(t, from.ns, to.v4, 10)
					if s := p.a.Peer("berlin").Session; s == nil || s.Initiator != (initiator == "tund") {
						t.Errorf("session %+v, want one initiated by %s", s, initiator)
					}
					exercise(t, p.endA(), p.endB(), smallBytes)
					p.a.Stop()
					other.stop()
				})
			}
		}
	})
}

func TestWireguardGo_restartIsSurvived(t *testing.T) {
	t.Parallel()
	eachImplementation(t, func(t *testing.T, program string) {
		p := newPair(t, false)
		other := replace(t, p.b, program)
		p.a.start()
		other.start()
		forth := startPing(t, p.a.NS, p.endB().v4, 100*time.Millisecond)
		back := startPing(t, p.b.NS, p.endA().v4, 100*time.Millisecond)
		both := func(what string, limit time.Duration) {
			t.Helper()
			began := time.Now()
			forth.goesOn(what, limit)
			back.goesOn(what, limit)
			t.Logf("traffic both ways %s: after %v", what, time.Since(began).Round(time.Millisecond))
		}
		both("at first", silenceLimit) // both begin
		other.stop()
		other.start()
		both("after a restart of wireguard-go", restartLimit)
		p.a.Stop()
		p.a.start()
		both("after a restart of tund", restartLimit)
		p.a.Stop()
	})
}

// move gives the side of an underlay another address in the same network.
func move(t *testing.T, ns *testnet.NS, from, to string) {
	t.Helper()
	// First, or it would take the other one along as its secondary.
	ns.Run(t, "ip", "address", "delete", from, "dev", "eth0")
	ns.Run(t, "ip", "address", "add", to, "dev", "eth0")
}

func TestWireguardGo_peerMovesInMidFlow(t *testing.T) {
	t.Parallel()
	eachImplementation(t, func(t *testing.T, program string) {
		p := newPair(t, false)
		other := replace(t, p.b, program)
		p.a.start()
		other.start()
		forth := startFlow(t, p.a.NS, p.b.NS, p.endB().v4)
		back := startFlow(t, p.b.NS, p.a.NS, p.endA().v6)
		both := func(what string, limit time.Duration) {
			t.Helper()
			forth.goesOn(what, limit)
			back.goesOn(what, limit)
		}
		both("at first", silenceLimit)
		move(t, p.b.NS, underlayB4+"/24", "192.0.2.102/24")
		p.b.NS.Run(t, "wg", "set", other.device, "listen-port", "51902")
		both("after wireguard-go moved", silenceLimit)
		// What came before the move may still have been in the socket's buffer.
		testnet.Await(t, "its new endpoint", restartLimit, func() bool { return p.a.Peer("berlin").Endpoint == "192.0.2.102:51902" })
		move(t, p.a.NS, underlayA4+"/24", "192.0.2.101/24")
		p.a.port = 51901
		p.a.reload()
		both("after tund moved", restartLimit)
		if got := p.b.NS.Run(t, "wg", "show", other.device, "endpoints"); !containsAll(got, []string{"192.0.2.101:51901"}) {
			t.Errorf("endpoints %s, want 192.0.2.101:51901", got)
		}
		forth.finish()
		back.finish()
		p.a.Stop()
		other.stop()
	})
}

func TestTunnel_peerMovesInMidFlow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ipv6                     bool
		oldA, newA, oldB, newB   string
		endpointOfA, endpointOfB string
	}{
		{false, underlayA4 + "/24", "192.0.2.101/24", underlayB4 + "/24", "192.0.2.102/24", "192.0.2.101:51901", "192.0.2.102:51902"},
		{true, underlayA6 + "/64", "2001:db8::101/64", underlayB6 + "/64", "2001:db8::102/64", "[2001:db8::101]:51901", "[2001:db8::102]:51902"},
	} {
		t.Run(fmt.Sprintf("underlay IPv6=%v", c.ipv6), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, c.ipv6)
			p.start()
			forth := startFlow(t, p.a.NS, p.b.NS, p.endB().v6)
			back := startFlow(t, p.b.NS, p.a.NS, p.endA().v4)
			both := func(what string) {
				t.Helper()
				forth.goesOn(what, restartLimit)
				back.goesOn(what, restartLimit)
			}
			both("at first")
			move(t, p.a.NS, c.oldA, c.newA)
			p.a.port = 51901
			p.a.reload()
			both("after paris moved")
			// What came before the move may still have been in the socket's buffer.
			testnet.Await(t, "the new endpoint of paris", restartLimit, func() bool { return p.b.Peer("paris").Endpoint == c.endpointOfA })
			move(t, p.b.NS, c.oldB, c.newB)
			p.b.port = 51902
			p.b.reload()
			both("after berlin moved")
			testnet.Await(t, "the new endpoint of berlin", restartLimit, func() bool { return p.a.Peer("berlin").Endpoint == c.endpointOfB })
			forth.finish()
			back.finish()
			p.a.Stop()
			p.b.Stop()
		})
	}
}

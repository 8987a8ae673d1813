package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// soakPings are 400 seconds of five pings a second: three rekeys at 120, 240 and 360 s.
const soakPings = 2000

func TestSoakRekeys_noPingIsLost(t *testing.T) {
	soak(t)
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
				if n := g.status().Peers[0].Handshake.Completed; n < 4 || n > 6 {
					t.Errorf("%s completed %d handshakes, want 4: one at the start and three rekeys", g.name, n)
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
			first, to := p.a.ns, p.endB().v4
			if initiator != "tund" {
				first, to = p.b.ns, p.endA().v4
			}
			ping(t, first, to, 3) // the other side does not know where to send before it has heard something
			fivePings(t, p)
			if n := p.a.peer("berlin").Handshake.Completed; n < 4 || n > 6 {
				t.Errorf("%d handshakes, want 4: one at the start and three rekeys", n)
			}
			if p.a.peer("berlin").Session.Initiator != (initiator == "tund") {
				t.Errorf("the last rekey was not begun by %s", initiator)
			}
		})
	}
}

// fivePings sends five pings a second from one side only, and answers have to come to all.
func fivePings(t *testing.T, p *pair) {
	t.Helper()
	run := p.a.ns.Start(t, "ping", "-n", "-q", "-c", strconv.Itoa(soakPings), "-i", "0.2", "-W", "8", p.endB().v4)
	back := p.b.ns.Start(t, "ping", "-n", "-q", "-c", strconv.Itoa(soakPings), "-i", "0.2", "-W", "8", p.endA().v6)
	for _, ping := range []*testnet.Process{run, back} {
		select {
		case <-ping.Done():
		case <-time.After(soakPings*200*time.Millisecond + time.Minute):
			ping.Signal(syscall.SIGINT)
		}
		_ = ping.Wait()
		if want := fmt.Sprintf(" %d received, 0%% packet loss", soakPings); !strings.Contains(ping.Output(), want) {
			t.Errorf("want%s:\n%s", want, ping.Output())
		}
	}
}

func TestSoakTunnel_aGibibyteArrivesAsItWasSent(t *testing.T) {
	soak(t)
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
			}{{p.a.ns, p.b.ns, p.endB().v4}, {p.b.ns, p.a.ns, p.endA().v6}} {
				t.Logf("to %s: %v", way.to, transfer(t, way.from, way.at, way.to, soakBytes))
			}
			p.a.stop()
			p.b.stop()
		})
	}
}

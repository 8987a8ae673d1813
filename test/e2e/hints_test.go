package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// onlyACalls makes side a the only one that can begin: b has to be called.
func onlyACalls(p *pair) { p.b.peers[0].endpoint = "" }

// backAfter kills side b, starts it again and returns how long after the kill a ping from a is answered.
func backAfter(t *testing.T, p *pair, kill, start func()) time.Duration {
	t.Helper()
	forth := startPing(t, p.a.NS, p.endB().v4, 100*time.Millisecond)
	forth.goesOn("at first", startLimit)
	pause(5 * time.Second) // until the last handshake is more than RekeyTimeout ago, as it usually is
	began := time.Now()
	kill()
	before := forth.answers()
	pause(300 * time.Millisecond) // some pings have to find the port closed: who is back before that is found after 15 s
	start()
	down := time.Since(began)
	testnet.Await(t, "an answer after the restart", restartLimit, func() bool { return forth.answers() > before })
	took := time.Since(began)
	t.Logf("down for %v, back after %v", down.Round(10*time.Millisecond), took.Round(10*time.Millisecond))
	return took
}

// TestHints_killedPeerIsFoundAgain: it forgets its sessions, and only our side has something to say. The timers of
// WireGuard notice after 15 s; ICMP tells of the closed port at once.
func TestHints_killedPeerIsFoundAgain(t *testing.T) {
	t.Parallel()
	for _, ipv6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[ipv6], func(t *testing.T) {
			t.Parallel()
			p := newPair(t, ipv6)
			onlyACalls(p)
			p.start()
			kill := func() { _ = p.b.Process.Stop(syscall.SIGKILL, startLimit) }
			if took := backAfter(t, p, kill, p.b.start); took > restartLimit {
				t.Errorf("back after %v, want at most %v", took, restartLimit)
			}
			if got := p.a.Peer("berlin"); got.State != "up" {
				t.Errorf("state %s", got.State)
			}
			p.a.Stop()
			p.b.Stop()
		})
	}
}

func TestHints_killedWireguardGoIsFoundAgain(t *testing.T) {
	t.Parallel()
	eachImplementation(t, func(t *testing.T, program string) {
		p := newPair(t, false)
		onlyACalls(p)
		other := replace(t, p.b, program)
		p.a.start()
		other.start()
		kill := func() { _ = other.process.Stop(syscall.SIGKILL, startLimit) }
		if took := backAfter(t, p, kill, other.start); took > restartLimit {
			t.Errorf("back after %v, want at most %v", took, restartLimit)
		}
		p.a.Stop()
		other.stop()
	})
}

// TestHints_wordsInStatus: a closed port is named as such, in the state of the peer and in the log.
func TestHints_wordsInStatus(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.a.start()
	p.a.asks(p.endB().v4) // nobody is there
	testnet.Await(t, "status names the closed port", startLimit, func() bool {
		return strings.Contains(p.a.Peer("berlin").LastError, "port unreachable")
	})
	p.a.Stop()
}

// TestHints_automaticMTUFollowsThePath: a router on the way says that datagrams are too large, and the device learns
// of it long before somebody would look by himself.
func TestHints_automaticMTUFollowsThePath(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	router := testnet.New(t)
	testnet.Veth(t, p.a.NS, router, []string{"198.51.100.1/24"}, []string{"198.51.100.254/24"})
	testnet.Veth(t, p.b.NS, router, []string{"203.0.113.1/24"}, []string{"203.0.113.254/24"})
	router.Run(t, "sysctl", "-q", "net.ipv4.ip_forward=1")
	p.a.NS.Run(t, "ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.254")
	p.b.NS.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "203.0.113.254")
	p.a.peers[0].endpoint, p.b.peers[0].endpoint = endpoint("203.0.113.1"), endpoint("198.51.100.1")
	p.start()
	device := p.a.Status().Devices[0]
	if device.MTU != 1420 {
		t.Fatalf("MTU %d at first, want 1420", device.MTU)
	}
	forth := startFlow(t, p.a.NS, p.b.NS, p.endB().v4)
	forth.goesOn("at first", startLimit)
	// What leaves in one call with UDP_SEGMENT has no DF bit (kernel ip_output.c, __ip_make_skb): routers cut it, and a
	// flow that has nothing else never hears of its path. Single datagrams have it.
	p.a.NS.Start(t, "ping", "-n", "-q", "-i", "0.2", "-s", "1390", p.endB().v4)
	router.Run(t, "ip", "link", "set", "eth1", "mtu", "1400")
	began := time.Now()
	testnet.Await(t, "the device has the MTU of the path less 80", 10*time.Second, func() bool {
		return strings.Contains(p.a.NS.Run(t, "ip", "link", "show", "dev", device.Name), " mtu 1320 ")
	})
	t.Logf("lowered after %v", time.Since(began).Round(time.Millisecond))
	forth.goesOn("over the smaller path", recoveryLimit)
	if p.a.Status().Drops["too-big"] == 0 {
		t.Error("nothing is counted as too big")
	}
	forth.finish()
	p.a.Stop()
	p.b.Stop()
}

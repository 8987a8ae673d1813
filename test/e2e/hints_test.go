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

// backAfter kills side b, starts it again and returns how long after the kill a ping from a is
// answered.
func backAfter(t *testing.T, p *pair, kill, start func()) time.Duration {
	t.Helper()
	forth := startPing(t, p.a.NS, p.endB().v4, 100*time.Millisecond)
	forth.goesOn("at first", startLimit)
	// Until the last handshake is more than RekeyTimeout ago, as it usually is.
	pause(5 * time.Second)
	began := time.Now()
	kill()
	before := forth.answers()
	// Some pings have to find the port closed: who is back before that is found after 15 s.
	pause(300 * time.Millisecond)
	start()
	down := time.Since(began)
	testnet.Await(t, "an answer after the restart", restartLimit, func() bool { return forth.answers() > before })
	took := time.Since(began)
	t.Logf("down for %v, back after %v", down.Round(10*time.Millisecond), took.Round(10*time.Millisecond))
	return took
}

// TestHints_killedPeerIsFoundAgain: it forgets its sessions, and only our side has something to
// say. The timers of WireGuard notice after 15 s; ICMP tells of the closed port at once.
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

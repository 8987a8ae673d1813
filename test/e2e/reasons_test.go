package e2e

import (
	"testing"
	"time"

	"tund/crypto/wire"
	"tund/internal/doctor"
	"tund/internal/testnet"
)

// A handshake is repeated every 5 s, and two failures in a row are worth a line of the log.
const (
	firstFailure  = 10 * time.Second
	secondFailure = 20 * time.Second
)

// asks makes an instance want a session: it has something to send.
func (g *gateway) asks(to string) {
	g.T.Helper()
	startPing(g.T, g.NS, to, time.Second)
}

// explains waits until the status of a peer says why there is no session.
func (g *gateway) explains(peer string, limit time.Duration, words ...string) {
	g.T.Helper()
	last := ""
	defer func() {
		if g.T.Failed() {
			g.T.Logf("%s: last error of %s: %q", g.Name, peer, last)
		}
	}()
	testnet.Await(g.T, "an explanation", limit, func() bool {
		p := g.Peer(peer)
		last = p.LastError
		return containsAll(p.LastError, words) && p.State == "down"
	})
	g.diagnosed(words)
}

// diagnosed checks that tunctl doctor names the same cause, and what to do about it.
func (g *gateway) diagnosed(words []string) {
	g.T.Helper()
	status := g.Status()
	r := doctor.Examine(&doctor.Evidence{Now: time.Now(), Instance: &status})
	for _, f := range r.Findings {
		if f.Severity.Worse(doctor.Note) && f.Remedy != "" && containsAll(f.Cause+" "+f.Remedy, words) {
			return
		}
	}
	g.T.Errorf("doctor does not name %q: %+v", words, r.Findings)
}

// warns waits for a warning of a kind that says what to do, with words in it.
func (g *gateway) warns(limit time.Duration, kind string, words ...string) {
	g.T.Helper()
	testnet.Await(g.T, "a warning of the kind "+kind, limit, func() bool {
		for _, w := range g.Status().Warnings {
			if w.Kind == kind && w.Remedy != "" && containsAll(w.Message+" "+w.Remedy, words) {
				return true
			}
		}
		return false
	})
	g.diagnosed(words)
}

func TestReasons_ofHandshakesThatFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, p *pair)
		expect  func(p *pair)
	}{
		{"nobody is there", func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = endpoint("192.0.2.99") }, func(p *pair) {
			p.a.explains("berlin", firstFailure, "192.0.2.99:51820")
			p.a.Says(secondFailure, "WARN", "handshake failed", `"peer": "berlin"`, "192.0.2.99:51820", "attempts")
		}},
		{"port is closed", func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = "192.0.2.2:9" }, func(p *pair) {
			p.a.explains("berlin", firstFailure, "no answer from 192.0.2.2:9")
			p.a.Says(secondFailure, "WARN", "handshake failed", "no answer from 192.0.2.2:9", "attempts")
		}},
		{"unreachable", func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = endpoint("203.0.113.9") }, func(p *pair) {
			p.a.explains("berlin", firstFailure, "cannot send to 203.0.113.9:51820", "network is unreachable")
			p.a.Says(secondFailure, "WARN", "handshake failed", "network is unreachable")
		}},
		{"wrong key for the server", func(t *testing.T, p *pair) { p.a.peers[0].key = newGateway(t, nil, "").Key.Public() }, func(p *pair) {
			p.b.Says(firstFailure, "WARN", "wrong public key for this server", "192.0.2.1:51820")
			p.a.explains("berlin", firstFailure, "no answer", "wrong public key for it")
			p.b.warns(secondFailure, "wrong-key", "192.0.2.1:51820", p.b.Key.Public().String())
		}},
		{"unknown peer", func(t *testing.T, p *pair) { p.b.peers[0].key = newGateway(t, nil, "").Key.Public() }, func(p *pair) {
			p.b.Says(firstFailure, "WARN", "unknown peer", p.a.Key.Public().String(), "192.0.2.1:51820")
			p.b.warns(firstFailure, "unknown-peer", "192.0.2.1:51820", "public_key = \""+p.a.Key.Public().String()+"\"")
			p.a.explains("berlin", firstFailure, "no answer", "ours unknown there")
		}},
		{"preshared keys differ", func(t *testing.T, p *pair) { p.a.peers[0].psk, p.b.peers[0].psk = psk(t), psk(t) }, func(p *pair) {
			p.a.Says(firstFailure, "WARN", "preshared keys differ", `"peer": "berlin"`)
			p.a.explains("berlin", firstFailure, "preshared keys differ")
			p.b.Says(secondFailure, "WARN", "preshared key differs", `"peer": "paris"`)
			p.b.explains("paris", firstFailure, "preshared key differs")
		}},
		{"one has no preshared key", func(t *testing.T, p *pair) { p.b.peers[0].psk = psk(t) }, func(p *pair) {
			p.a.explains("berlin", firstFailure, "preshared keys differ")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, false)
			p.b.peers[0].endpoint = ""
			c.prepare(t, p)
			p.start()
			p.a.asks(p.endB().v4)
			c.expect(p)
			p.a.Stop()
			p.b.Stop()
		})
	}
}

// TestReasons_replayedInitiation keeps an initiation from arriving, and lets it arrive after a
// newer one.
func TestReasons_replayedInitiation(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.b.peers[0].endpoint = ""
	seen := startCapture(t, p.a.NS, "eth0")
	p.b.NS.Run(t, "nft", "add table inet hold; add chain inet hold in { type filter hook input priority 0; }; add rule inet hold in udp dport 51820 drop")
	p.start()
	p.a.asks(p.endB().v4)
	held := seen.first(t, wire.TypeInitiation)
	p.b.NS.Run(t, "nft", "delete table inet hold")
	testnet.Await(t, "a session", secondFailure, func() bool { return p.a.Peer("berlin").State == "up" })
	before := p.b.Status()
	enemy := packetConn(t, p.a.NS, "192.0.2.1:0")
	to := listenAt(underlayB4)
	if _, err := enemy.WriteToUDPAddrPort(held, to); err != nil {
		t.Fatal(err)
	}
	p.b.Says(firstFailure, "WARN", "replayed", `"peer": "paris"`)
	if n := p.b.Status().Drops["handshake-failed"]; n != before.Drops["handshake-failed"]+1 {
		t.Errorf("handshake-failed = %d, want one more than %d", n, before.Drops["handshake-failed"])
	}
	for range 5 { // the very same again is not even looked at
		_, _ = enemy.WriteToUDPAddrPort(held, to)
	}
	testnet.Await(t, "duplicates are counted", firstFailure, func() bool { return p.b.Status().Drops["duplicate-initiation"] == 5 })
	if got := p.b.Peer("paris"); got.State != "up" || got.Endpoint != "192.0.2.1:51820" {
		t.Errorf("peer is %s at %s, want up at 192.0.2.1:51820", got.State, got.Endpoint)
	}
	p.a.Stop()
	p.b.Stop()
}

// TestReasons_comeSeldom makes the same thing fail often and counts the lines.
func TestReasons_comeSeldom(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.b.start()
	enemy := packetConn(t, p.a.NS, "192.0.2.1:0")
	garbage := make([]byte, wire.InitiationSize)
	garbage[0] = wire.TypeInitiation
	for i := range 5000 {
		if i%256 == 0 { // no more at once than a socket holds
			testnet.Await(t, "those so far are counted", startLimit, func() bool { return received(p.b.Status().Drops) == uint64(i) })
		}
		if _, err := enemy.WriteToUDPAddrPort(garbage, listenAt(underlayB4)); err != nil {
			t.Fatal(err)
		}
	}
	testnet.Await(t, "all are counted", startLimit, func() bool { return received(p.b.Status().Drops) == 5000 })
	if lines := countLines(p.b.Process.Output(), "wrong public key for this server"); lines != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", lines, p.b.Process.Output())
	}
	p.b.Stop()
}

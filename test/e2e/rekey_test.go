package e2e

import (
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/testnet"
)

// TestReload_aNewKeyLosesAPacketAtMost changes the private key of one gateway, as docs/config.md
// says under "A new key", while 100 pings a second cross in each direction.
func TestReload_aNewKeyLosesAPacketAtMost(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.start()
	pings := []*pinger{startPing(t, p.a.NS, p.endB().v4, 10*time.Millisecond), startPing(t, p.b.NS, p.endA().v4, 10*time.Millisecond)}
	goOn := func(what string) {
		t.Helper()
		for _, ping := range pings {
			ping.goesOn(what, startLimit)
		}
	}
	goOn("at first")
	handshakes := p.b.Peer("paris").Handshake.Completed

	old := p.a.Key
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	p.a.File("old.key", old.Base64())
	p.a.Key, p.a.tunnel = key, []string{`previous_private_key_file = "old.key"`}
	p.a.reload()
	goOn("with both keys")
	p.a.Says(startLimit, "our key has changed", key.Public().String())
	if n := p.b.Peer("paris").Handshake.Completed; n != handshakes {
		t.Errorf("%d handshakes, %d before the key changed", n, handshakes)
	}
	warning := func() string {
		for _, w := range p.a.Status().Warnings {
			if w.Kind == "previous-key" {
				return w.Message
			}
		}
		return ""
	}
	if got, want := warning(), "these peers still use our previous key: berlin"; got != want {
		t.Errorf("status says %q, want %q", got, want)
	}

	p.b.peers[0].key = key.Public()
	p.b.reload()
	goOn("after the peer changed over")
	testnet.Await(t, "the previous key is not used any more", startLimit, func() bool {
		return warning() == "our previous key is still accepted, and no session uses it"
	})
	p.a.tunnel = nil
	p.a.reload()
	goOn("without the previous key")
	if got := warning(); got != "" {
		t.Errorf("without a previous key, status says %q", got)
	}
	for _, ping := range pings {
		ping.end()
		sent := <-ping.sent
		testnet.Await(t, "all answers but one", lastAnswer, func() bool { return ping.answers() >= sent-1 })
	}
	p.a.Stop()
	p.b.Stop()
}

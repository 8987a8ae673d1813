package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// A server that is killed and started again is back for its clients as soon as it runs, although it
// has no endpoint of theirs in its configuration and nothing to send.
func TestRestart_killedServerAsksItsClients(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.b.peers[0].endpoint = ""
	p.start()
	pings := startPing(t, p.a.NS, p.endB().v4, 50*time.Millisecond)
	pings.goesOn("before", startLimit)
	testnet.Await(t, "the peer is remembered", startLimit, func() bool {
		text, _ := os.ReadFile(filepath.Join(p.b.Dir, "state", p.b.Name, "contacts"))
		return strings.Contains(string(text), p.a.Key.Public().String())
	})
	p.b.Kill()
	p.b.Launch()
	p.b.Ready()
	began := time.Now()
	pings.goesOn("after the start", 10*time.Second) // 15 s without being asked
	t.Logf("answers again %v after the start", time.Since(began))
	pings.end()
	p.a.Stop()
	p.b.Stop()
}

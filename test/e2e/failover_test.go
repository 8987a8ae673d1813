package e2e

import (
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// TestSoakFailover_twoGatewaysOfASite kills the preferred gateway of a site and starts it again:
// the other one takes over within three seconds, and nothing is lost when the first is back.
func TestSoakFailover_twoGatewaysOfASite(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	p := newPair(t, false)
	// A second gateway of B's site, on a cable of its own; both have the site's host as an address.
	other := testnet.New(t)
	testnet.Veth(t, p.a.NS, other, []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"})
	second := newGateway(t, other, "rome")
	second.addresses = []string{"10.9.0.3/24"}
	second.peers = []peerConfig{{name: "paris", key: p.a.Key.Public(), allowed: []string{"10.9.0.1/32"}, more: []string{"liveness = 1"}}}
	for _, ns := range []*testnet.NS{p.b.NS, other} {
		ns.Run(t, "ip", "address", "add", "10.20.1.1/32", "dev", "lo")
	}
	p.a.peers[0].allowed, p.a.peers[0].more = []string{"10.9.0.2/32", "10.20.0.0/16"}, []string{"liveness = 1", "priority = 10"}
	p.a.peers = append(p.a.peers, peerConfig{
		name: "rome", key: second.Key.Public(), endpoint: endpoint("198.51.100.2"), allowed: []string{"10.9.0.3/32", "10.20.0.0/16"},
		more: []string{"liveness = 1"},
	})
	second.start()
	p.start()
	active := func(name string) bool { return p.a.Peer(name).Active }
	testnet.Await(t, "the preferred gateway carries", startLimit, func() bool { return active("berlin") && !active("rome") && p.a.Peer("rome").State == "up" })
	pause(3 * time.Second) // both have answered a few times

	flow := startPing(t, p.a.NS, "10.20.1.1", 10*time.Millisecond)
	flow.goesOn("to the preferred gateway", startLimit)
	before := flow.answers()
	died := time.Now()
	_ = p.b.Process.Stop(syscall.SIGKILL, startLimit)
	testnet.Await(t, "answers from the other gateway", startLimit, func() bool { return active("rome") && flow.answers() > before+20 })
	if took := time.Since(died); took > 3500*time.Millisecond {
		t.Errorf("taken over after %v", took)
	}
	flow.finish()

	flow = startPing(t, p.a.NS, "10.20.1.1", 10*time.Millisecond)
	p.b.start()
	testnet.Await(t, "the preferred gateway carries again", 40*time.Second, func() bool { return active("berlin") })
	flow.goesOn("after that", startLimit)
	flow.wantNoLoss()
}

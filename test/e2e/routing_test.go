package e2e

import (
	"testing"

	"tund/internal/testnet"
)

// TestRouting_ofTheHostChoosesThePeer: two peers may send everything; routes by way of their
// addresses, as a routing daemon makes them, lead to one or the other, and follow changes.
func TestRouting_ofTheHostChoosesThePeer(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	other := testnet.New(t)
	testnet.Veth(t, p.a.NS, other, []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"})
	rome := newGateway(t, other, "rome")
	rome.addresses = []string{"10.9.0.3/24"}
	rome.peers = []peerConfig{{name: "paris", key: p.a.Key.Public(), allowed: []string{"10.9.0.1/32"}}}
	for _, ns := range []*testnet.NS{p.b.NS, other} {
		ns.Run(t, "ip", "address", "add", "10.20.1.1/32", "dev", "lo")
	}
	p.a.tun = []string{`routing = "system"`}
	p.a.peers[0].allowed = []string{"10.9.0.2/32", "0.0.0.0/0", "::/0"}
	p.a.peers = append(p.a.peers, peerConfig{
		name: "rome", key: rome.Key.Public(), endpoint: endpoint("198.51.100.2"), allowed: []string{"10.9.0.3/32", "0.0.0.0/0", "::/0"},
	})
	before := p.a.NS.Snapshot()
	rome.start()
	p.start()
	for _, peer := range []string{"10.9.0.2", "10.9.0.3"} {
		ping(t, p.a.NS, peer, 1)
	}
	received := func(g *gateway) uint64 { return g.Status().Devices[0].RxPackets }
	for _, step := range []struct {
		route string
		to    *gateway
	}{
		{"10.20.0.0/16 via 10.9.0.2", p.b}, {"10.20.1.0/24 via 10.9.0.3", rome}, {"10.20.1.0/24 via 10.9.0.2", p.b},
	} {
		p.a.NS.Run(t, "sh", "-c", "ip route replace "+step.route+" dev "+p.a.Name+" proto bird")
		testnet.Await(t, step.route+" leads there", startLimit, func() bool {
			was := received(step.to)
			_, err := p.a.NS.Try("ping", "-q", "-c1", "-W1", "10.20.1.1")
			return err == nil && received(step.to) > was
		})
	}
	p.a.Stop()
	if after := p.a.NS.Snapshot(); after != before {
		t.Errorf("after the stop: the kernel has\n%swant\n%s", after, before)
	}
}

package ethernet

import (
	"slices"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/testnet"
)

// A client whose neighbours are configured never says its address in ARP. It talks, and leaves its
// access point for one at another site: the port of the access point stays up, so nobody says that
// it has left. It is found as soon as any other host that moves.
func TestMove_clientThatNeverSaidItsAddress(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	client, server, there := berlin.host(1), paris.host(2), paris.host(3)
	for _, h := range []*host{client, server} {
		h.ns.Run(t, "sysctl", "-qw", "net.ipv6.conf."+h.dev+".disable_ipv6=1")
	}
	client.ns.Run(t, "ip", "neighbour", "add", server.v4, "lladdr", server.mac.String(), "dev", client.dev, "nud", "permanent")
	server.ns.Run(t, "ip", "neighbour", "add", client.v4, "lladdr", client.mac.String(), "dev", server.dev, "nud", "permanent")
	start(t, berlin, paris)
	testnet.Await(t, "the address of a client that talks", 10*time.Second, func() bool {
		client.pings(server.v4, 1)
		pause(100 * time.Millisecond)
		return slices.ContainsFunc(berlin.Status().FDB, func(e control.FDBEntry) bool {
			return e.MAC == client.mac.String() && slices.Contains(e.IPs, client.v4)
		})
	})
	client.ns.Run(t, "ip", "address", "flush", "dev", client.dev) // nobody answers there any more
	began, port := time.Now(), there.raw()
	testnet.Await(t, "the client in Paris", 10*time.Second, func() bool {
		port.send(plainFrame(server.mac, client.mac, "here"))
		port.send(plainFrame(strangerMAC, client.mac, "to Berlin"))
		pause(10 * time.Millisecond)
		return berlin.where(client.mac, 0) == "paris"
	})
	if took, limit := time.Since(began), slowly(1500*time.Millisecond); took > limit {
		t.Errorf("found after %v, want at most %v", took, limit)
	}
}

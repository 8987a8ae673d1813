package e2e

import (
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// TestBindDevice_secondUplink: the datagrams of an instance take the second uplink although the
// routing table prefers the first, also after that link was removed and recreated.
func TestBindDevice_secondUplink(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	second := func() {
		link, _ := testnet.Veth(t, p.a.NS, p.b.NS, []string{"203.0.113.1/24"}, []string{"203.0.113.2/24"})
		if link != "eth1" {
			p.a.NS.Run(t, "sh", "-c", "ip link set "+link+" down name eth1 && ip link set eth1 up")
		}
		p.a.NS.Run(t, "ip", "route", "add", "default", "via", "203.0.113.2", "metric", "100")
	}
	p.a.NS.Run(t, "ip", "route", "add", "default", "via", underlayB4)
	p.b.NS.Run(t, "ip", "address", "add", "198.51.100.1/32", "dev", "lo")
	second()
	p.a.NS.Run(t, "sh", "-c", `nft add table inet seen && nft add chain inet seen out '{ type filter hook output priority 0; }' &&
		nft add rule inet seen out oifname eth0 udp dport 51820 counter`)
	p.a.tunnel = []string{`bind_device = "eth1"`}
	p.a.peers[0].endpoint, p.b.peers[0].endpoint = endpoint("198.51.100.1"), ""
	p.b.start()
	p.a.start()
	ping(t, p.a.NS, "10.9.0.2", 3)
	p.a.NS.Run(t, "ip", "link", "delete", "eth1")
	second()
	p.a.Says(startLimit, "bound to the interface")
	startPing(t, p.a.NS, "10.9.0.2", 50*time.Millisecond).goesOn("after the link was replaced", startLimit)
	if seen := p.a.NS.Run(t, "nft", "list", "table", "inet", "seen"); !strings.Contains(seen, "packets 0 ") {
		t.Errorf("datagrams left by the first uplink:\n%s", seen)
	}
}

package e2e

import (
	"os"
	"testing"
	"time"

	"tund/internal/testnet"
)

// adviceLimit is within what time a mistake of the host's settings has its name.
const adviceLimit = 15 * time.Second

// calm waits until there is no warning of a kind any more.
func (g *gateway) calm(kind string) {
	g.T.Helper()
	testnet.Await(g.T, "no warning of the kind "+kind, adviceLimit, func() bool {
		for _, w := range g.Status().Warnings {
			if w.Kind == kind {
				return false
			}
		}
		return true
	})
}

// TestAdvice_onTheHostsSettings: what the host has set so that the tunnel cannot work is named with
// what to do, and no longer once that is done.
func TestAdvice_onTheHostsSettings(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	lan := testnet.New(t)
	testnet.Veth(t, p.a.NS, lan, []string{"192.168.7.1/24"}, []string{"192.168.7.2/24"})
	sysctl := func(setting string) { p.a.NS.Run(t, "sysctl", "-qw", setting) }
	sysctl("net.ipv4.ip_forward=1")
	p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.20.0.0/16")
	p.start()
	p.a.calm("forwarding")

	sysctl("net.ipv4.ip_forward=0")
	p.a.warns(adviceLimit, "forwarding", "IPv4", p.a.Name, "eth1", "net.ipv4.ip_forward=1")
	sysctl("net.ipv4.ip_forward=1")
	p.a.calm("forwarding")

	sysctl("net.ipv4.conf." + p.a.Name + ".rp_filter=1")
	p.a.calm("reverse-path")
	p.a.NS.Run(t, "ip", "rule", "add", "to", "10.20.0.0/16", "lookup", "99", "priority", "99")
	p.a.NS.Run(t, "ip", "route", "add", "10.20.0.0/16", "via", "192.168.7.2", "table", "99")
	p.a.warns(adviceLimit, "reverse-path", "10.20.0.0/16", "eth1", "net.ipv4.conf."+p.a.Name+".rp_filter=2")
	sysctl("net.ipv4.conf." + p.a.Name + ".rp_filter=2")
	p.a.calm("reverse-path")
	p.a.Stop()
	p.b.Stop()
}

// TestAdvice_clockThatIsBehind: the configuration was written in what the clock calls the future.
func TestAdvice_clockThatIsBehind(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.a.start()
	tomorrow := time.Now().Add(24 * time.Hour)
	if err := os.Chtimes(p.a.ConfigPath(), tomorrow, tomorrow); err != nil {
		t.Fatal(err)
	}
	p.a.warns(adviceLimit, "clock", "before", "NTP")
	if err := os.Chtimes(p.a.ConfigPath(), time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	p.a.calm("clock")
	p.a.Stop()
}

// TestAdvice_firewallBeforeOurPort: callers get no answer, and nothing reaches us that could say
// why.
func TestAdvice_firewallBeforeOurPort(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"a rule that drops": "add table inet fw; add chain inet fw in { type filter hook input priority 0; }; " +
			"add rule inet fw in udp dport 51820 drop",
		"a policy that drops": "add table inet fw; add chain inet fw in { type filter hook input priority 0; policy drop; }; " +
			"add rule inet fw in iifname lo accept; add rule inet fw in ct state established accept; " +
			"add rule inet fw in tcp dport 22 accept; add rule inet fw in meta l4proto { icmp, ipv6-icmp } ct state new accept",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, false)
			p.b.peers[0].endpoint = ""
			p.b.NS.Run(t, "nft", rules)
			p.start()
			p.a.asks(p.endB().v4)
			p.b.warns(adviceLimit, "firewall", "51820", "inet fw", "nft insert rule inet fw in udp dport 51820 accept")
			p.b.NS.Run(t, "nft", "insert rule inet fw in udp dport 51820 accept")
			p.b.calm("firewall")
			testnet.Await(t, "a session", secondFailure, func() bool { return p.a.Peer("berlin").State == "up" })
			p.a.Stop()
			p.b.Stop()
		})
	}
}

// TestAdvice_exitAndSecondUplink: an exit that does not translate addresses, and a second uplink
// on which the kernel drops what peers send, because the way back leaves by the first.
func TestAdvice_exitAndSecondUplink(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.b.tun = []string{"forward = true"}
	p.b.NS.Run(t, "ip", "route", "add", "default", "via", underlayA4)
	p.a.peers[0].allowed = append(p.a.peers[0].allowed, "198.51.100.0/24")
	// A second cable, by whose address A calls B while B would answer by the first.
	testnet.Veth(t, p.a.NS, p.b.NS, []string{"203.0.113.1/24"}, []string{"203.0.113.2/24"})
	p.a.NS.Run(t, "ip", "address", "add", "198.18.0.1/32", "dev", "lo")
	p.a.NS.Run(t, "sysctl", "-qw", "net.ipv4.conf.all.arp_announce=2") // as a router between them
	p.a.NS.Run(t, "ip", "route", "add", "203.0.113.2/32", "dev", "eth1", "src", "198.18.0.1")
	p.b.NS.Run(t, "sysctl", "-qw", "net.ipv4.conf.eth1.rp_filter=1")
	p.a.peers[0].endpoint, p.b.peers[0].endpoint = endpoint("203.0.113.2"), ""
	p.start()
	p.a.NS.Start(t, "ping", "-q", "-i", ".2", "198.51.100.9")
	p.b.warns(adviceLimit, "reverse-path", "eth1", "net.ipv4.conf.eth1.rp_filter=2")
	p.b.NS.Run(t, "sysctl", "-qw", "net.ipv4.conf.eth1.rp_filter=2")
	p.b.warns(2*adviceLimit, "masquerade", "10.9.0.1 to 198.51.100.9", "masquerade = true")
}

package e2e

import (
	"syscall"
	"testing"

	"tund/internal/testnet"
)

// overIPv6 has paris call berlin over IPv6.
func overIPv6(_ *testing.T, p *pair) { p.a.peers[0].endpoint = endpoint("[" + underlayB6 + "]") }

// lan6 gives paris a LAN of IPv6 and a network of IPv6 behind berlin.
func lan6(t *testing.T, p *pair) {
	lan := testnet.New(t)
	testnet.Veth(t, p.a.NS, lan, []string{"fd07::1/64"}, []string{"fd07::2/64"})
	p.a.peers[0].allowed = append(p.a.peers[0].allowed, "fd20::/48")
}

// otherPort has paris reload with a UDP port that another program has.
func otherPort(t *testing.T, p *pair) {
	packetConn(t, p.a.NS, ":51999")
	p.a.port = 51999
	p.a.write()
	p.a.Process.Signal(syscall.SIGHUP)
}

// answersOnly is a firewall that accepts answers, and a rule that keeps connection tracking from
// knowing them.
const answersOnly = "nft add table inet fw; add chain inet fw c { type filter hook input priority 0; policy drop; }; " +
	"add rule inet fw c iifname lo accept; add rule inet fw c meta l4proto { icmp, ipv6-icmp } accept; add rule inet fw c ct state established,related accept; " +
	"add chain inet fw r { type filter hook prerouting priority raw; }; add rule inet fw r udp dport 51820 notrack"

// moreFaults are of the same kinds as those of the other tables.
var moreFaults = []tableFault{
	{name: "IPv6: INPUT of the other end", early: overIPv6, provoke: inB(nft("input", "udp dport 51820 drop")), mend: inB(noRules),
		paris: []string{"down: ", unheardThere}, berlin: []string{"[firewall]", "51820"}},
	{name: "IPv6: our OUTPUT", early: overIPv6, provoke: inA(nft("output", "ip6 daddr 2001:db8::2 drop")), mend: inA(noRules), paris: []string{"firewall of this host"}},
	{name: "IPv6: off on the uplink", early: overIPv6, provoke: inA("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"), paris: []string{"unreachable"},
		mend: inA("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0", "ip address replace 2001:db8::1/64 dev eth0 nodad")},
	{name: "IPv6: the address in use is removed", early: both(overIPv6, inA("ip address add 2001:db8::77/64 dev eth0 nodad")),
		provoke: inA("ip address delete 2001:db8::77/64 dev eth0"), passes: true},
	{name: "IPv6: the other address is removed", early: both(overIPv6, inA("ip address add 2001:db8::77/64 dev eth0 nodad")),
		provoke: inA("ip address delete 2001:db8::1/64 dev eth0"), passes: true},
	{name: "IPv6: MTU of the uplink 1280", early: overIPv6, provoke: inA("ip link set eth0 mtu 1280"), mend: inA("ip link set eth0 mtu 1500"), passes: true},
	{name: "IPv6: no forwarding", early: lan6, paris: []string{"[forwarding]", "net.ipv6.conf.all.forwarding=1"}, passes: true,
		mend: inA("sysctl -qw net.ipv6.conf.all.forwarding=1")},
	{name: "IPv6: FORWARD drops by policy of ip6tables", early: both(lan6, inA("sysctl -qw net.ipv6.conf.all.forwarding=1")),
		provoke: inA("ip6tables -P FORWARD DROP"), mend: inA("ip6tables -P FORWARD ACCEPT"), paris: []string{"[forwarding]", "table ip6 filter, chain FORWARD"}, passes: true},
	{name: "wrong entry of the neighbour table", provoke: inA("ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent"),
		mend: inA("ip neigh delete 192.0.2.2 dev eth0"), paris: []string{"down: ", unheardThere}},
	{name: "the endpoint is this host", early: func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = endpoint(underlayA4) }, paris: []string{"down: ", "this host"},
		mend: func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = endpoint(underlayB4); p.a.reload() }},
	{name: "PSK at one end only", early: func(t *testing.T, p *pair) { p.b.peers[0].psk = psk(t) }, paris: []string{"preshared key"}, berlin: []string{"preshared key"},
		mend: func(_ *testing.T, p *pair) { p.a.peers[0].psk = p.b.peers[0].psk; p.a.reload() }},
	{name: "policy rule that prohibits an allowed IP", early: siteOf, provoke: inA("ip rule add to 10.20.0.0/16 prohibit priority 50"),
		mend: inA("ip rule delete priority 50"), paris: []string{"[route-elsewhere]", "10.20.0.0/16"}, passes: true},
	{name: "unreachable route for a part of an allowed IP", early: siteOf, provoke: inA("ip route add unreachable 10.20.3.0/24"),
		mend: inA("ip route delete unreachable 10.20.3.0/24"), paris: []string{"[route-elsewhere]", "10.20.3.0/24"}, passes: true},
	{name: "source address translated into the tunnel", early: inA("nft add table ip n; add chain ip n c { type nat hook postrouting priority 100; }; " +
		"add rule ip n c oifname DEVICE snat to 10.77.0.1"), paris: []string{"drops our packets from 10.77.0.1"}, berlin: []string{"10.77.0.1", "allowed_ips"}},
	{name: "answers that connection tracking does not know", provoke: inA(answersOnly), mend: inA(noRules), paris: []string{"[firewall]", "connection tracking"},
		berlin: []string{unheardThere}},
	{name: "ICMP that says how long packets may be", early: siteOf, provoke: inA(nft("output", "icmp type destination-unreachable drop")), mend: inA(noRules),
		paris: []string{"[forwarding]", "large transfers"}, passes: true},
	{name: "loss of three in ten, with liveness", early: livelyBoth, provoke: inB(nft("prerouting", "iifname eth0 numgen random mod 10 < 3 drop")), mend: inB(noRules),
		// One time in some hundred, chance lets nearly all of the requests of 15 s pass.
		paris: []string{"are lost on the path"}, berlin: []string{"are lost on the path"}, passes: true, within: 2 * named},
	{name: "port of a reload is taken", provoke: otherPort, paris: []string{"listen_port", "51999"}, passes: true,
		mend: func(_ *testing.T, p *pair) { p.a.port = listenPort; p.a.reload() }},
	{name: "firewall of the bridge", early: bridged, provoke: inA("nft add table bridge fw; add chain bridge fw c { type filter hook forward priority 0; policy drop; }"),
		mend: inA("nft delete table bridge fw"), passes: true, paris: []string{"[bridge]", "drops frames between lan0", `nft insert rule bridge fw c iifname "lan0" accept`}},
	{name: "plain WireGuard: INPUT of the other end", plain: true, provoke: inB(nft("input", "udp dport 51820 drop")), mend: inB(noRules), paris: []string{"no answer"}},
	{name: "plain WireGuard: our INPUT", plain: true, provoke: inA(nft("input", "udp sport 51820 drop")), mend: inA(noRules), paris: []string{"[firewall]"}},
	{name: "plain WireGuard: another PSK", plain: true, early: func(t *testing.T, p *pair) { p.b.peers[0].psk = psk(t) }, paris: []string{"preshared keys differ"},
		mend: func(_ *testing.T, p *pair) { p.a.peers[0].psk = p.b.peers[0].psk; p.a.reload() }},
	{name: "plain WireGuard: REJECT at the other end", plain: true, provoke: inB(nft("input", "udp dport 51820 reject")), mend: inB(noRules), paris: []string{"port unreachable"}},
	{name: "plain WireGuard: allowed IPs there lack ours", plain: true, early: func(_ *testing.T, p *pair) { p.b.peers[0].allowed = []string{"10.9.0.77/32"} }},
	{name: "plain WireGuard: our OUTPUT", plain: true, provoke: inA(nft("output", "udp dport 51820 drop")), mend: inA(noRules), paris: []string{"firewall of this host"}},
	{name: "plain WireGuard: uplink down", plain: true, provoke: inA("ip link set eth0 down"), mend: inA("ip link set eth0 up"), paris: []string{"unreachable"}},
}

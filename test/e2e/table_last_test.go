package e2e

import (
	"slices"
	"testing"
	"time"

	"tund/internal/testnet"
)

// flowtables gives paris a table that hands connections which are known to a flow table, past the
// chains of the firewall. Not every kernel has them.
func flowtables(t *testing.T, p *pair) {
	const table = "add table inet fw; add flowtable inet fw ft { hook ingress priority 0; devices = { eth0, eth1 }; }"
	if out, err := p.a.NS.Try("nft", table); err != nil {
		t.Skipf("no flow tables in this kernel: %s", out)
	}
	command(t, p.a.NS, "nft add chain inet fw c { type filter hook forward priority 0; policy drop; }; "+
		"add rule inet fw c meta l4proto { tcp, udp } flow add @ft; add rule inet fw c ct state established,related accept; add rule inet fw c iifname eth1 accept")
}

// hostsFile gives paris the name of berlin, with an address in a file of hosts.
func hostsFile(address string) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) {
		named77(t, p)
		p.a.File("hosts", address+" berlin.example.org\n")
	}
}

// corrected has the file of hosts say the address of berlin.
func corrected(_ *testing.T, p *pair) { p.a.File("hosts", "192.0.2.2 berlin.example.org\n") }

// forwardsItself has paris forward by its configuration.
func forwardsItself(_ *testing.T, p *pair) { p.a.tun = append(p.a.tun, "forward = true") }

// isOnAgain waits until a setting of paris is on again, which somebody has switched off.
func isOnAgain(name string) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) {
		command(t, p.a.NS, "sysctl -qw "+name+"=0")
		testnet.Await(t, name+" is on again", named, func() bool {
			out, _ := p.a.NS.Try("sysctl", "-n", name)
			return out == "1" || out == "1\n"
		})
	}
}

// set returns the line that blocks members of a set at a hook.
func set(hook, kind, element, match string) string {
	return "nft add table inet fw; add set inet fw s { " + kind + "; }; add element inet fw s { " + element + " }; " +
		"add chain inet fw c { type filter hook " + hook + " priority 0; }; add rule inet fw c " + match + " @s drop"
}

// lastFaults are of the same kinds as those of the other tables.
var lastFaults = []tableFault{
	{name: "FORWARD drops what is not in a flow table", early: forwarding, provoke: flowtables, mend: inA(noRules), passes: true},
	{name: "forwarding off at the LAN alone", early: forwarding, provoke: inA("sysctl -qw net.ipv4.conf.eth1.forwarding=0"),
		mend: inA("sysctl -qw net.ipv4.conf.eth1.forwarding=1"), paris: []string{"[forwarding]", "net.ipv4.conf.eth1.forwarding=1"}, passes: true},
	{name: "forwarding off at our device alone", early: forwarding, provoke: inA("sysctl -qw net.ipv4.conf.DEVICE.forwarding=0"),
		mend: inA("sysctl -qw net.ipv4.conf.DEVICE.forwarding=1"), paris: []string{"[forwarding]", ".forwarding=1"}, passes: true},
	{name: "forward = true, and somebody switches it off", early: both(forwarding, forwardsItself), provoke: isOnAgain("net.ipv4.ip_forward"), passes: true},
	{name: "IPv6: forward = true, and somebody switches it off", early: both(lan6, forwardsItself), provoke: isOnAgain("net.ipv6.conf.all.forwarding"), passes: true},
	{name: "full tunnel, and somebody has marks not count", early: func(_ *testing.T, p *pair) {
		p.a.peers[0].allowed = append(p.a.peers[0].allowed, "0.0.0.0/0", "::/0")
	}, provoke: isOnAgain("net.ipv4.conf.all.src_valid_mark"), passes: true},
	{name: "INPUT of the other end, by a set of addresses with a timeout", mend: inB("nft flush set inet fw s"), berlin: []string{"[firewall]", "51820"},
		provoke: inB(set("input", "type ipv4_addr; flags timeout", "192.0.2.1 timeout 90s", "ip saddr")), paris: []string{unheardThere}},
	{name: "INPUT of the other end, by a set of ports", mend: inB(noRules), berlin: []string{"[firewall]", "51820"},
		provoke: inB(set("input", "type inet_service; flags interval", "50000-60000", "udp dport")), paris: []string{unheardThere}},
	{name: "REJECT of firewalld at the other end", provoke: inB(nft("input", "udp dport 51820 reject with icmp type host-prohibited")), mend: inB(noRules),
		paris: []string{"forbidden by a router or a firewall"}, berlin: []string{"[firewall]"}},
	{name: "IPv6: REJECT of firewalld at the other end", early: overIPv6, provoke: inB(nft("input", "udp dport 51820 reject with icmpv6 type admin-prohibited")),
		mend: inB(noRules), paris: []string{"forbidden by a router or a firewall"}, berlin: []string{"[firewall]"}},
	{name: "IPsec policy that blocks", provoke: inA("ip xfrm policy add dst 192.0.2.2/32 dir out action block"), mend: inA("ip xfrm policy flush"),
		paris: []string{"ip xfrm policy"}},
	{name: "endpoint is a broadcast address", early: func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = endpoint("192.0.2.255") }, paris: []string{"broadcast address"},
		mend: func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = endpoint(underlayB4); p.a.reload() }},
	{name: "name of a loopback address", early: hostsFile("127.0.1.1"), mend: corrected, paris: []string{"down: ", "127.0.1.1, a loopback address"}},
	{name: "name of our own address", early: hostsFile(underlayA4), mend: corrected, paris: []string{"down: ", "is this host itself"}},
	{name: "name of the wrong family, corrected", early: hostsFile("2001:db8:ffff::2"), mend: corrected, paris: []string{"down: ", "unreachable"}},
	{name: "same key twice on one host", early: func(_ *testing.T, p *pair) { p.b.port = listenPort }, provoke: func(t *testing.T, p *pair) {
		twin := newGateway(t, p.a.NS, "twin")
		twin.Key, twin.port, twin.addresses, twin.peers = p.a.Key, 51999, []string{"10.9.7.1/24"}, slices.Clone(p.a.peers)
		twin.peers[0].allowed = []string{"10.9.7.2/32"}
		twin.start()
		startPing(t, p.a.NS, "10.9.7.2", 200*time.Millisecond)
	}, berlin: []string{"two hosts use the key", "192.0.2.1:51999"}, passes: true},
	{name: "IPv6: the route to the endpoint expires", early: overIPv6, within: 2 * named,
		provoke: inA("ip -6 route flush dev eth0 proto kernel", "ip -6 route add 2001:db8::/64 dev eth0 expires 3"), mend: inA("ip -6 route replace 2001:db8::/64 dev eth0"), paris: []string{"down: ", "no route"}},
	{name: "ports of the bridge are isolated", early: both(bridged, inA("ip link add lanp type veth peer name lanq", "ip link set lanp master br0")),
		provoke: inA("bridge link set dev lanp isolated on", "bridge link set dev lan0 isolated on"), mend: inA("bridge link set dev lan0 isolated off"),
		paris: []string{"[bridge]", "all ports of the bridge br0 are isolated"}, passes: true},
	{name: "port of the TAP locked", early: bridged, provoke: inA("bridge link set dev lan0 locked on"), mend: inA("bridge link set dev lan0 locked off"),
		paris: []string{"[bridge]", "is locked", "locked off"}, passes: true},
	{name: "port of the TAP without broadcasts", early: bridged, provoke: inA("bridge link set dev lan0 bcast_flood off"),
		mend: inA("bridge link set dev lan0 bcast_flood on"), paris: []string{"[bridge]", "floods no broadcasts"}, passes: true},
	{name: "plain WireGuard: IPsec policy that blocks", plain: true, provoke: inA("ip xfrm policy add dst 192.0.2.2/32 dir out action block"),
		mend: inA("ip xfrm policy flush"), paris: []string{"ip xfrm policy"}},
	{name: "plain WireGuard: addresses of the uplink flushed", plain: true, early: overIPv6, provoke: inA("ip -6 address flush dev eth0"),
		mend: inA("ip address add 2001:db8::1/64 dev eth0 nodad"), paris: []string{"no route"}},
}

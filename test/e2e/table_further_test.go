package e2e

import (
	"testing"

	"tund/internal/testnet"
)

// siteOf gives paris a LAN, forwarding and a network behind berlin, and a router at the LAN's .2.
func siteOf(t *testing.T, p *pair) { forwarding(t, p) }

// livelyBoth has both ends ask each other every second.
func livelyBoth(_ *testing.T, p *pair) {
	for _, g := range []*gateway{p.a, p.b} {
		g.peers[0].more = append(g.peers[0].more, "liveness = 1")
	}
}

// keepsBoth has both ends send something every five seconds.
func keepsBoth(_ *testing.T, p *pair) { p.a.peers[0].keepalive, p.b.peers[0].keepalive = 5, 5 }

// pingLarge sends packets of a thousand bytes in both directions, beside the small ones.
func pingLarge(t *testing.T, p *pair) {
	for _, x := range []struct {
		ns *testnet.NS
		to string
	}{{p.a.NS, "10.9.0.2"}, {p.b.NS, "10.9.0.1"}} {
		x.ns.Start(t, "ping", "-q", "-i0.2", "-s1300", x.to)
	}
}

const small = "160 bytes are lost"

// furtherFaults are of the same kinds as those of faultTable and laterFaults.
var furtherFaults = []tableFault{
	{name: "path for small datagrams only", provoke: inB(nft("prerouting", "iifname eth0 ip length > 100 drop")), mend: inB(noRules),
		paris: []string{"down: ", small}},
	{name: "path for small datagrams only, with liveness", early: livelyBoth,
		provoke: inB(nft("prerouting", "iifname eth0 ip length > 100 drop")), mend: inB(noRules), paris: []string{"down: ", small}, berlin: []string{"down: ", small}},
	{name: "path for small datagrams only, with keepalives", early: keepsBoth,
		provoke: both(inA(nft("prerouting", "iifname eth0 ip length > 100 drop")), inB(nft("prerouting", "iifname eth0 ip length > 100 drop"))),
		mend:    both(inA(noRules), inB(noRules)), paris: []string{"down: ", small}},
	{name: "path that loses packets of 1000 bytes", provoke: both(pingLarge, inA(nft("prerouting", "iifname eth0 ip length > 1000 drop")),
		inB(nft("prerouting", "iifname eth0 ip length > 1000 drop"))), mend: both(inA(noRules), inB(noRules)), passes: true,
		paris: []string{"packets of 1280 bytes do not arrive"}, berlin: []string{"packets of 1280 bytes do not arrive"}},
	{name: "our INPUT, with liveness", early: livelyBoth, provoke: inA(nft("input", "udp sport 51820 drop")), mend: inA(noRules),
		paris: []string{"no answer"}, berlin: []string{unheardThere}},
	{name: "our INPUT, and the other end begins", early: func(_ *testing.T, p *pair) { p.b.peers[0].endpoint = endpoint(underlayA4) },
		provoke: both(pingBack, inA(nft("input", "udp dport 51820 drop"))), mend: inA(noRules), paris: []string{"[firewall]"}, berlin: []string{"down: "}},
	{name: "redirection at the other end, from the start", early: inB("nft add table ip nt; add chain ip nt c { type nat hook prerouting priority -100; }; add rule ip nt c udp dport 51820 redirect to :9"),
		mend: inB("nft delete table ip nt"), paris: []string{"192.0.2.2:51820"}, berlin: []string{"[firewall]", "51820"}},
	{name: "another program's socket at the other end's address", provoke: func(t *testing.T, p *pair) { p.b.Stop(); packetConn(t, p.b.NS, ":51820") },
		paris: []string{"down: "}},
	{name: "loss of three in ten, one way", provoke: inB(nft("prerouting", "iifname eth0 numgen random mod 10 < 3 drop")), mend: inB(noRules), passes: true},
	{name: "address on another device", provoke: inA("ip link add d0 type bridge", "ip link set d0 up", "ip address add 10.9.0.1/32 dev d0"),
		mend: inA("ip link delete d0"), paris: []string{"[address]", "10.9.0.1", "d0"}, passes: true},
	{name: "network on another device", provoke: inA("ip link add d0 type bridge", "ip link set d0 up", "ip address add 10.9.0.9/16 dev d0"),
		mend: inA("ip link delete d0"), paris: []string{"[address]", "10.9.0.0/16", "d0"}, passes: true},
	{name: "route to a part of an allowed IP", early: siteOf, provoke: inA("ip route add 10.20.5.0/24 via 192.168.7.2"),
		mend: inA("ip route delete 10.20.5.0/24 via 192.168.7.2"), paris: []string{"[route-elsewhere]", "10.20.5.0/24", "10.20.0.0/16"}, passes: true},
	{name: "route to half of an allowed IP", early: func(_ *testing.T, p *pair) { p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.0.1.0/24") },
		provoke: inA("ip route add 10.0.1.0/25 via 192.0.2.2"), mend: inA("ip route delete 10.0.1.0/25 via 192.0.2.2"),
		paris: []string{"[route-elsewhere]", "10.0.1.0/25", "10.0.1.0/24"}, passes: true},
	{name: "policy rule for what comes from the LAN", early: siteOf, provoke: inA("ip route add 10.20.0.0/16 via 192.0.2.2 table 99", "ip rule add iif eth1 lookup 99 priority 99"),
		mend: inA("ip rule delete priority 99"), paris: []string{"[route-elsewhere]", "eth1", "10.20.0.0/16"}, passes: true},
	{name: "policy rule for the source network", early: siteOf, provoke: inA("ip route add 10.20.0.0/16 via 192.0.2.2 table 99", "ip rule add from 192.168.7.0/24 lookup 99 priority 99"),
		mend: inA("ip rule delete priority 99"), paris: []string{"[route-elsewhere]", "eth1", "10.20.0.0/16"}, passes: true},
	{name: "policy rule for an allowed IP", early: siteOf, provoke: inA("ip route add 10.20.0.0/16 via 192.0.2.2 table 99", "ip rule add to 10.20.0.0/16 lookup 99 priority 99"),
		mend: inA("ip rule delete priority 99"), paris: []string{"[route-elsewhere]", "10.20.0.0/16"}, passes: true},
	{name: "our MTU changed by hand", provoke: inA("ip link set DEVICE mtu 1200"), passes: true},
	// Without its device an instance ends, for its service manager to start it again.
	{name: "our device deleted", provoke: inA("ip link delete DEVICE"), berlin: []string{"stopped: the peer"}},
	{name: "our device renamed", provoke: inA("ip link set DEVICE down", "ip link set DEVICE name other0"), berlin: []string{"stopped: the peer"}},
	{name: "bind_device deleted", early: func(t *testing.T, p *pair) {
		inA("ip link set eth0 name wan0")(t, p)
		p.a.tunnel = append(p.a.tunnel, `bind_device = "wan0"`)
	}, provoke: inA("ip link delete wan0"), paris: []string{"bind_device"}},
	{name: "source address of ours removed", early: inA("ip address add 192.0.2.7/24 dev eth0"),
		provoke: inA("ip address delete 192.0.2.1/24 dev eth0", "ip address replace 192.0.2.7/24 dev eth0"), passes: true},
	{name: "host behind NAT gets another address", early: translated, provoke: both(inA("ip address delete 192.0.2.1/24 dev eth0", "ip address add 192.0.2.50/24 dev eth0")), passes: true},
}

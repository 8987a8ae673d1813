package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// forwarding lets paris forward between a LAN of its own and a network behind berlin.
func forwarding(t *testing.T, p *pair) {
	lanOfA(t, p)
	p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.20.0.0/16")
	command(t, p.a.NS, "sysctl -qw net.ipv4.ip_forward=1")
}

// translated puts paris behind a NAT that gives its datagrams another port.
var translated = inA("nft add table ip nat; add chain ip nat c { type nat hook postrouting priority 100; }; " +
	"add rule ip nat c udp sport 51820 masquerade to :40000-40999 random")

// behindRouter gives berlin an address that is not on the cable, and paris a default route.
func behindRouter(router string) func(*testing.T, *pair) {
	return both(inB("ip address add 198.51.100.9/32 dev lo"), inA("ip route add default via "+router), func(_ *testing.T, p *pair) {
		p.a.peers[0].endpoint = endpoint("198.51.100.9")
	})
}

// bridged gives both ends a TAP in a bridge, beside the TUN device.
func bridged(t *testing.T, p *pair) {
	for _, g := range []*gateway{p.a, p.b} {
		command(t, g.NS, "ip link add br0 type bridge")
		command(t, g.NS, "ip link set br0 up")
		g.tun = append(g.tun, "[tap]", `device = "lan0"`, `bridge = "br0"`)
		g.peers[0].more = append(g.peers[0].more, "ethernet = true")
	}
}

// named77 gives paris the name of berlin, which a file of hosts has an address for.
func named77(_ *testing.T, p *pair) {
	p.a.peers[0].endpoint = "berlin.example.org:51820"
	p.a.File("hosts", "192.0.2.2 berlin.example.org\n")
	p.a.Wrap = []string{"unshare", "-m", "sh", "-c", "mount --bind " + p.a.Dir + "/hosts /etc/hosts && exec \"$@\"", "sh"}
}

// laterFaults are of the same kinds as those of faultTable.
var laterFaults = []tableFault{
	{name: "FORWARD drops by policy", early: forwarding,
		provoke: inA("nft add table inet fw; add chain inet fw c { type filter hook forward priority 0; policy drop; }"), mend: inA(noRules),
		paris: []string{"[forwarding]", "drops what is forwarded", "nft insert rule inet fw c"}, passes: true},
	{name: "FORWARD drops by policy of iptables", early: forwarding, provoke: inA("iptables -P FORWARD DROP"), mend: inA("iptables -P FORWARD ACCEPT"),
		paris: []string{"[forwarding]", "drops what is forwarded", "chain FORWARD"}, passes: true},
	{name: "FORWARD rejects by a last rule", early: forwarding, provoke: inA("iptables -A FORWARD -j REJECT"), mend: inA("iptables -F FORWARD"),
		paris: []string{"[forwarding]", "drops what is forwarded", "handle"}, passes: true},
	{name: "strict rp_filter of all alone", early: forwarding, provoke: inA("sysctl -qw net.ipv4.conf.all.rp_filter=1", "sysctl -qw net.ipv4.conf.DEVICE.rp_filter=0",
		"ip rule add to 10.20.0.0/16 lookup 99 priority 99", "ip route add 10.20.0.0/16 via 192.168.7.2 table 99"),
		paris: []string{"[reverse-path]", "10.20.0.0/16"}, passes: true, mend: inA("sysctl -qw net.ipv4.conf.all.rp_filter=0", "ip rule delete priority 99")},
	{name: "wrong PSK, and both begin", early: func(t *testing.T, p *pair) {
		p.a.peers[0].psk, p.b.peers[0].psk, p.b.peers[0].endpoint = psk(t), psk(t), endpoint(underlayA4)
		pingBack(t, p)
	}, paris: []string{"preshared key"}, berlin: []string{"preshared key"},
		mend: func(_ *testing.T, p *pair) { p.b.peers[0].psk = p.a.peers[0].psk; p.b.reload() }},
	{name: "NAT with another port", early: translated, passes: true},
	// The kernel forgets what it masquerades by a device that goes down.
	{name: "NAT that forgets", early: translated, passes: true, provoke: inA("ip link set eth0 down", "ip link set eth0 up")},
	{name: "default route gone", early: behindRouter(underlayB4), provoke: inA("ip route delete default"), mend: inA("ip route add default via 192.0.2.2"),
		paris: []string{"no route"}},
	{name: "next hop does not answer", early: behindRouter("192.0.2.99"), paris: []string{"198.51.100.9:51820"}},
	{name: "blackhole route to the endpoint", provoke: inA("ip route add blackhole 192.0.2.2/32"), mend: inA("ip route delete blackhole 192.0.2.2/32"),
		paris: []string{"blackhole"}},
	{name: "endpoint routed into the tunnel by hand", provoke: inA("ip route add 192.0.2.2/32 dev DEVICE"), mend: inA("ip route delete 192.0.2.2/32 dev DEVICE"),
		paris: []string{"routing-loop"}},
	{name: "IPv4 endpoint on an uplink of IPv6", early: inA("ip address delete 192.0.2.1/24 dev eth0"), mend: inA("ip address add 192.0.2.1/24 dev eth0"),
		paris: []string{"192.0.2.2:51820", "no route"}},
	{name: "name with another address", early: named77, passes: true,
		provoke: both(inB("ip address delete 192.0.2.2/24 dev eth0", "ip address add 192.0.2.77/24 dev eth0"), func(_ *testing.T, p *pair) {
			p.a.File("hosts", "192.0.2.77 berlin.example.org\n")
		})},
	{name: "private key file gone at a reload", provoke: func(t *testing.T, p *pair) {
		if err := os.Remove(filepath.Join(p.a.Dir, "own.key")); err != nil {
			t.Error(err)
		}
		p.a.Process.Signal(syscall.SIGHUP)
	}, paris: []string{"own.key"}, passes: true, mend: func(_ *testing.T, p *pair) { p.a.reload() }},
	{name: "peer removed at the other end", provoke: func(_ *testing.T, p *pair) { p.b.peers = p.b.peers[:0]; p.b.reload() },
		paris: []string{"removed: the peer said"}, berlin: []string{"its public key is in no [[peer]] here"},
		mend: func(_ *testing.T, p *pair) { p.b.peers = p.b.peers[:1]; p.b.reload() }},
	{name: "their allowed IPs lack ours after a reload", provoke: func(_ *testing.T, p *pair) { p.b.peers[0].allowed = []string{"10.9.0.77/32"}; p.b.reload() },
		paris: []string{"drops our packets from 10.9.0.1"}, berlin: []string{"10.9.0.1", "allowed_ips"},
		mend: func(_ *testing.T, p *pair) { p.b.peers[0].allowed = []string{"10.9.0.1/32"}; p.b.reload() }},
	{name: "the other end has another key", provoke: func(t *testing.T, p *pair) { p.b.Key = newGateway(t, nil, "").Key; p.b.reload() },
		paris: []string{"[unknown-peer]"}, berlin: []string{"ours unknown there"},
		mend: func(_ *testing.T, p *pair) { p.a.peers[0].key = p.b.Key.Public(); p.a.reload() }},
	{name: "address of the other end's device removed", provoke: inB("ip address delete 10.9.0.2/24 dev DEVICE"), passes: true},
	{name: "TAP taken out of its bridge", early: bridged, provoke: inA("ip link set lan0 nomaster"), passes: true},
	{name: "TAP taken into another bridge", early: bridged, provoke: inA("ip link add br1 type bridge", "ip link set lan0 master br1"), passes: true,
		paris: []string{"[bridge]", "port of br1", "master br0"}, mend: inA("ip link set lan0 master br0")},
	{name: "TAP set down", early: bridged, provoke: inA("ip link set lan0 down"), mend: inA("ip link set lan0 up"), paris: []string{"lan0", "is down"}, passes: true},
	{name: "bridge set down", early: bridged, provoke: inA("ip link set br0 down"), mend: inA("ip link set br0 up"), paris: []string{"[bridge]", "br0 is down"}, passes: true},
	{name: "bridge deleted", early: bridged, provoke: inA("ip link delete br0"), mend: inA("ip link add br0 up type bridge"), passes: true,
		paris: []string{"[bridge]", "br0 is gone", "ip link add br0"}},
	{name: "port of the TAP disabled", early: bridged, provoke: inA("bridge link set dev lan0 state 0"), mend: inA("bridge link set dev lan0 state 3"),
		paris: []string{"[bridge]", "port lan0 disabled", "bridge link set dev lan0 state 3"}, passes: true},
	{name: "rules for routed packets on bridged ones", early: bridged,
		provoke: inA("nft add table inet fw; add chain inet fw c { type filter hook forward priority 0; policy drop; }"), mend: inA(noRules), passes: true,
		paris: []string{"[bridge]", "drops IP packets that br0 passes", "bridge-nf-call-iptables=0", "iifname \"br0\" oifname \"br0\" accept"}},
}

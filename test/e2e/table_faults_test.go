package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

func inA(lines ...string) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) {
		t.Helper()
		for _, line := range lines {
			command(t, p.a.NS, strings.ReplaceAll(line, "DEVICE", p.a.Name))
		}
	}
}

func inB(lines ...string) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) {
		t.Helper()
		for _, line := range lines {
			command(t, p.b.NS, strings.ReplaceAll(line, "DEVICE", p.b.Name))
		}
	}
}

// nft returns the line that adds a rule to a chain of its own at a hook.
func nft(hook, rule string) string {
	return fmt.Sprintf("nft add table inet fw; add chain inet fw c { type filter hook %s priority 0; }; add rule inet fw c %s", hook, rule)
}

const noRules = "nft delete table inet fw"

// lanOfA gives paris a LAN of its own.
func lanOfA(t *testing.T, p *pair) *testnet.NS {
	t.Helper()
	lan := testnet.New(t)
	testnet.Veth(t, p.a.NS, lan, []string{"192.168.7.1/24"}, []string{"192.168.7.2/24"})
	return lan
}

// both runs what is done one after another.
func both(list ...func(*testing.T, *pair)) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) {
		for _, f := range list {
			f(t, p)
		}
	}
}

func pingBack(t *testing.T, p *pair) { startPing(t, p.b.NS, "10.9.0.1", 200*time.Millisecond) }

var faultTable = []tableFault{
	{name: "wrong key of the other end", early: func(t *testing.T, p *pair) { p.a.peers[0].key = newGateway(t, nil, "").Key.Public() },
		paris: []string{"no answer", "wrong public key for it"}, berlin: []string{"[wrong-key]"},
		mend: func(_ *testing.T, p *pair) { p.a.peers[0].key = p.b.Key.Public(); p.a.reload() }},
	{name: "wrong key of ours at the other end", early: func(t *testing.T, p *pair) { p.b.peers[0].key = newGateway(t, nil, "").Key.Public() },
		paris: []string{"no answer", "ours unknown there"}, berlin: []string{"its public key is in no [[peer]] here", "add [[peer]]"},
		mend: func(_ *testing.T, p *pair) { p.b.peers[0].key = p.a.Key.Public(); p.b.reload() }},
	{name: "wrong PSK", early: func(t *testing.T, p *pair) { p.a.peers[0].psk, p.b.peers[0].psk = psk(t), psk(t) },
		paris: []string{"preshared keys differ"}, berlin: []string{"preshared key differs"},
		mend: func(_ *testing.T, p *pair) { p.b.peers[0].psk = p.a.peers[0].psk; p.b.reload() }},
	{name: "our OUTPUT", provoke: inA(nft("output", "udp dport 51820 drop")), mend: inA(noRules),
		paris: []string{"firewall of this host", "nft list ruleset"}},
	{name: "our OUTPUT by iptables", provoke: inA("iptables -A OUTPUT -p udp --dport 51820 -j DROP"),
		mend: inA("iptables -F OUTPUT"), paris: []string{"firewall of this host"}},
	{name: "our POSTROUTING", provoke: inA(nft("postrouting", "udp dport 51820 drop")), mend: inA(noRules),
		paris: []string{"firewall of this host", "nft list ruleset"}},
	{name: "INPUT of the other end", provoke: inB(nft("input", "udp dport 51820 drop")), mend: inB(noRules),
		paris: []string{"down: ", unheardThere}, berlin: []string{"[firewall]", "51820"}},
	{name: "INPUT of the other end by iptables", provoke: inB("iptables -A INPUT -p udp --dport 51820 -j DROP"),
		mend: inB("iptables -F INPUT"), paris: []string{"down: ", unheardThere}, berlin: []string{"[firewall]", "51820"}},
	{name: "INPUT of the other end from the start", early: inB(nft("input", "udp dport 51820 drop")), mend: inB(noRules),
		paris: []string{"no answer from"}, berlin: []string{"[firewall]", "51820"}},
	{name: "PREROUTING of the other end", provoke: inB(nft("prerouting", "udp dport 51820 drop")), mend: inB(noRules),
		paris: []string{"down: ", unheardThere}, berlin: []string{"[firewall]", "51820"}},
	{name: "REJECT at the other end", provoke: inB(nft("input", "udp dport 51820 reject")), mend: inB(noRules),
		paris: []string{"port unreachable"}, berlin: []string{"[firewall]"}},
	{name: "OUTPUT of the other end", provoke: inB(nft("output", "udp sport 51820 drop")), mend: inB(noRules),
		paris: []string{"no answer from"}, berlin: []string{"firewall of this host", "nft list ruleset"}},
	{name: "our INPUT", provoke: inA(nft("input", "udp sport 51820 drop")), mend: inA(noRules),
		paris: []string{"no answer from", "[firewall]"}, berlin: []string{"down: ", unheardThere}},
	{name: "a router between drops the answers", provoke: inA(nft("prerouting", "ip saddr 192.0.2.2 ip protocol udp drop")), mend: inA(noRules),
		paris: []string{"no answer from"}, berlin: []string{"down: ", unheardThere}},
	{name: "dead DNS", early: func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = "berlin.example.invalid:51820" },
		paris: []string{"down: ", "does not resolve"}},
	{name: "name server that never answers", early: func(_ *testing.T, p *pair) {
		p.a.peers[0].endpoint = "berlin.example.org:51820"
		p.a.File("resolv.conf", "nameserver 192.0.2.99\n")
		p.a.Wrap = []string{"unshare", "-m", "sh", "-c", "mount --bind " + p.a.Dir + "/resolv.conf /etc/resolv.conf && exec \"$@\"", "sh"}
	}, paris: []string{"down: ", "berlin.example.org"}},
	{name: "name of the wrong family", early: func(_ *testing.T, p *pair) {
		p.a.peers[0].endpoint = "berlin.example.org:51820"
		p.a.File("hosts", "2001:db8:ffff::2 berlin.example.org\n")
		p.a.Wrap = []string{"unshare", "-m", "sh", "-c", "mount --bind " + p.a.Dir + "/hosts /etc/hosts && exec \"$@\"", "sh"}
	}, paris: []string{"down: ", "unreachable"}},
	{name: "stopped peer", provoke: func(_ *testing.T, p *pair) { p.b.Stop() }, paris: []string{"down: "},
		mend: func(_ *testing.T, p *pair) { p.b.start() }},
	{name: "killed peer", provoke: func(_ *testing.T, p *pair) { p.b.Kill() }, paris: []string{"port unreachable"},
		mend: func(_ *testing.T, p *pair) { p.b.start() }},
	{name: "hung peer", provoke: func(_ *testing.T, p *pair) { p.b.Process.Signal(syscall.SIGSTOP) }, paris: []string{"no answer"}, deaf: true,
		mend: func(_ *testing.T, p *pair) { p.b.Process.Signal(syscall.SIGCONT) }},
	{name: "wrong port of the endpoint", early: func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = underlayB4 + ":51821" },
		paris: []string{"192.0.2.2:51821", "port unreachable"},
		mend:  func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = endpoint(underlayB4); p.a.reload() }},
	{name: "endpoint inside the tunnel", early: func(_ *testing.T, p *pair) {
		p.a.peers[0].allowed = append(p.a.peers[0].allowed, underlayB4+"/32")
	}, paris: []string{"[routing-loop]", "leave the endpoint out"}},
	{name: "overlap after a reload", provoke: func(_ *testing.T, p *pair) {
		p.a.peers = append(p.a.peers, peerConfig{name: "oslo", key: newGateway(p.a.T, nil, "").Key.Public(), allowed: p.a.peers[0].allowed})
		p.a.write()
		p.a.Process.Signal(syscall.SIGHUP)
	}, paris: []string{"10.9.0.2/32", "oslo"}, passes: true,
		mend: func(_ *testing.T, p *pair) { p.a.peers = p.a.peers[:1]; p.a.reload() }},
	{name: "own LAN is an allowed IP", early: func(_ *testing.T, p *pair) {
		p.a.peers[0].allowed = append(p.a.peers[0].allowed, "192.168.7.0/24")
	}, provoke: func(t *testing.T, p *pair) { lanOfA(t, p) }, paris: []string{"[network]", "192.168.7.0/24"}, passes: true,
		mend: inA("ip link delete eth1")},
	{name: "IPv6 off at the start", early: inA("sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "sysctl -qw net.ipv6.conf.default.disable_ipv6=1"),
		paris: []string{"IPv6"}, passes: true,
		mend: inA("sysctl -qw net.ipv6.conf.all.disable_ipv6=0", "sysctl -qw net.ipv6.conf.default.disable_ipv6=0", "sysctl -qw net.ipv6.conf.DEVICE.disable_ipv6=0")},
	{name: "IPv6 turned off", provoke: inA("sysctl -qw net.ipv6.conf.all.disable_ipv6=1"), paris: []string{"IPv6"}, passes: true,
		mend: inA("sysctl -qw net.ipv6.conf.all.disable_ipv6=0")},
	{name: "no forwarding", early: func(t *testing.T, p *pair) {
		lanOfA(t, p)
		p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.20.0.0/16")
	}, paris: []string{"[forwarding]", "net.ipv4.ip_forward=1"}, passes: true, mend: inA("sysctl -qw net.ipv4.ip_forward=1")},
	{name: "strict rp_filter", early: func(t *testing.T, p *pair) {
		lanOfA(t, p)
		p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.20.0.0/16")
	}, provoke: inA("sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.conf.DEVICE.rp_filter=1", "ip rule add to 10.20.0.0/16 lookup 99 priority 99",
		"ip route add 10.20.0.0/16 via 192.168.7.2 table 99"), paris: []string{"[reverse-path]", "10.20.0.0/16"}, passes: true,
		mend: inA("sysctl -qw net.ipv4.conf.DEVICE.rp_filter=2", "ip rule delete priority 99")},
	{name: "clock a day behind", provoke: func(t *testing.T, p *pair) { touch(t, p.a, 24*time.Hour) }, paris: []string{"[clock]", "NTP"}, passes: true,
		mend: func(t *testing.T, p *pair) { touch(t, p.a, 0) }},
	{name: "MTU black hole", provoke: inB(nft("prerouting", "iifname eth0 ip length > 1200 drop")), passes: true, mend: inB(noRules)},
	{name: "their allowed IPs lack ours", early: func(_ *testing.T, p *pair) { p.b.peers[0].allowed = []string{"10.9.0.77/32"} },
		paris: []string{"drops our packets from 10.9.0.1", "allowed_ips of this host there"}, berlin: []string{"10.9.0.1", "allowed_ips"},
		mend: func(_ *testing.T, p *pair) {
			p.b.peers[0].allowed = []string{"10.9.0.1/32", "fd09::1/128"}
			p.b.reload()
		}},
	{name: "uplink down", provoke: inA("ip link set eth0 down"), mend: inA("ip link set eth0 up"), paris: []string{"unreachable"}},
	{name: "uplink of the other end down", provoke: both(pingBack, inB("ip link set eth0 down")), mend: inB("ip link set eth0 up"),
		paris: []string{"no answer", "no route to host"}, berlin: []string{"unreachable"}},
	{name: "address of the uplink gone", provoke: inA("ip address delete 192.0.2.1/24 dev eth0"), mend: inA("ip address add 192.0.2.1/24 dev eth0"),
		paris: []string{"unreachable"}},
	{name: "MTU of the uplink 600", provoke: inA("ip link set eth0 mtu 600"), mend: inA("ip link set eth0 mtu 1500"), passes: true},
	{name: "device set down", provoke: inA("ip link set DEVICE down"), mend: inA("ip link set DEVICE up"), paris: []string{"device", "is down"}},
	{name: "our address removed", provoke: inA("ip address delete 10.9.0.1/24 dev DEVICE"), passes: true},
	{name: "our route removed", early: func(_ *testing.T, p *pair) { p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.20.0.0/16") },
		provoke: inA("ip route delete 10.20.0.0/16 dev DEVICE"), passes: true},
	{name: "our route taken", early: func(_ *testing.T, p *pair) { p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.20.0.0/16") },
		provoke: inA("ip route replace 10.20.0.0/16 via 192.0.2.2 dev eth0"), passes: true, paris: []string{"10.20.0.0/16"},
		mend: both(inA("ip route delete 10.20.0.0/16 via 192.0.2.2 dev eth0"), func(t *testing.T, p *pair) {
			testnet.Await(t, "our route is back", named, func() bool {
				out, _ := p.a.NS.Try("ip", "route", "get", "10.20.0.1")
				return strings.Contains(out, "dev "+p.a.Name)
			})
		})},
	{name: "another route is better", early: func(_ *testing.T, p *pair) {
		p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.20.0.0/16")
		p.a.tun = []string{"metric = 100"}
	},
		provoke: inA("ip route add 10.20.0.0/16 via 192.0.2.2 dev eth0 metric 50"), passes: true, paris: []string{"10.20.0.0/16"},
		mend: inA("ip route delete 10.20.0.0/16 via 192.0.2.2 dev eth0")},
	{name: "same key twice", early: func(t *testing.T, p *pair) { p.b.port = listenPort }, provoke: func(t *testing.T, p *pair) {
		ns := testnet.New(t)
		testnet.Veth(t, ns, p.b.NS, []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"})
		twin := newGateway(t, ns, "twin")
		twin.Key, twin.addresses, twin.peers = p.a.Key, p.a.addresses, append([]peerConfig{}, p.a.peers...)
		twin.peers[0].endpoint = endpoint("198.51.100.2")
		twin.start()
		startPing(t, ns, "10.9.0.2", 200*time.Millisecond)
	}, berlin: []string{"two hosts use the key"}},
	{name: "no room for the state", early: func(t *testing.T, p *pair) {
		p.a.Wrap = []string{"unshare", "-m", "sh", "-c", "mkdir -p " + p.a.Dir + "/state && mount -t tmpfs -o size=4k none " + p.a.Dir + "/state && " +
			"{ dd if=/dev/zero of=" + p.a.Dir + "/state/full bs=4k count=2 2>/dev/null; exec \"$@\"; }", "sh"}
	}, paris: []string{"[state]"}, passes: true},
}

// touch makes the configuration file look as if it had been written some time from now.
func touch(t *testing.T, g *gateway, ahead time.Duration) {
	t.Helper()
	at := time.Now().Add(ahead)
	if err := os.Chtimes(g.ConfigPath(), at, at); err != nil {
		t.Fatal(err)
	}
}

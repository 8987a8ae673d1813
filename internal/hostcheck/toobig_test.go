package hostcheck

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"tund/internal/testnet"
)

// TestReadMuted_findsWhatDropsICMP, and what drops frames of a TAP, lets nft(8) write rules as
// administrators do, in a network namespace of its own for each set of rules, on a gateway with a
// LAN.
func TestReadMuted_findsWhatDropsICMP(t *testing.T) {
	const child = "TUND_TEST_MUTED"
	if rules := os.Getenv(child); rules != "" {
		setRules(t, rules)
		link := func(name string, addrs ...string) Link {
			l := Link{Name: name, Up: true, Forward4: true}
			for _, a := range addrs {
				l.Addrs = append(l.Addrs, netip.MustParsePrefix(a))
			}
			return l
		}
		host := Host{Forward6: true, Links: []Link{
			link("office", "10.9.0.1/24", "fd09::1/64"), link("lan0", "192.168.7.1/24", "fd07::1/64"), link("wan0", "192.0.2.1/24"),
		}}
		tun := Tunnel{Device: "office", Uplinks: []string{"wan0"}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd20::/48")}}
		muted, err := tun.ReadMuted(host)
		if err != nil {
			t.Fatal(err)
		}
		tun.Tap, tun.Bridge = "lan1", "br0"
		framed, err := ReadFrames(tun.Tap)
		if err != nil {
			t.Fatal(err)
		}
		tun.Muted, tun.Framed = muted, framed
		for _, f := range append(tun.muted(), tun.frames()...) {
			t.Logf("FOUND %s | %s", f.Message, f.Remedy)
		}
		return
	}
	testnet.Require(t)
	const base = "add table inet fw; add chain inet fw c { type filter hook output priority 0; "
	for _, test := range []struct {
		name, rules string
		found       int
		want        string
	}{
		{"all of ICMP", base + "}; add rule inet fw c meta l4proto { icmp, ipv6-icmp } drop", 2, "icmpv6 type packet-too-big accept"},
		{"ICMP of IPv4 to the LAN", base + "}; add rule inet fw c oifname lan0 ip protocol icmp drop", 1, "nft insert rule inet fw c icmp type destination-unreachable accept"},
		{"such messages alone", base + "}; add rule inet fw c icmp type destination-unreachable drop", 1, "chain c, handle 2"},
		{"echo requests", base + "}; add rule inet fw c icmp type echo-request drop", 0, ""},
		{"ICMP to the uplink", base + "}; add rule inet fw c oifname wan0 ip protocol icmp drop", 0, ""},
		{"a policy that lets what is related pass", base + "policy drop; }; add rule inet fw c ct state established,related accept", 0, ""},
		{"a policy that does not", base + "policy drop; }; add rule inet fw c ct state established accept; add rule inet fw c udp sport 51820 accept", 2, "the policy is drop"},
		{"all of ICMP where the MSS is lowered", base + "}; add rule inet fw c ip protocol icmp drop; add chain inet fw f { type filter hook forward priority 0; }; " +
			"add rule inet fw f tcp flags syn tcp option maxseg size set rt mtu", 0, ""},
		{"frames by policy", "add table bridge fw; add chain bridge fw c { type filter hook forward priority 0; policy drop; }", 1,
			`table bridge fw, chain c: the policy is drop`},
		{"frames from the TAP", "add table bridge fw; add chain bridge fw c { type filter hook forward priority 0; }; add rule bridge fw c iifname lan1 drop", 1,
			`nft insert rule bridge fw c iifname "lan1" accept`},
		{"frames of others", "add table bridge fw; add chain bridge fw c { type filter hook forward priority 0; policy drop; }; " +
			"add rule bridge fw c iifname lan1 accept; add rule bridge fw c oifname lan1 accept", 0, ""},
		{"frames of one protocol", "add table bridge fw; add chain bridge fw c { type filter hook forward priority 0; }; " +
			"add rule bridge fw c meta protocol ip drop", 0, ""},
		{"frames of one kind", "add table bridge fw; add chain bridge fw c { type filter hook forward priority 0; }; " +
			"add rule bridge fw c ether type ip6 drop; add rule bridge fw c iifname eth7 drop", 0, ""},
		{"iptables", "iptables -A OUTPUT -p icmp -j DROP", 1, "table ip filter, chain OUTPUT"},
		{"iptables, such messages alone", "iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP", 1, "table ip filter, chain OUTPUT"},
		{"iptables, other messages", "iptables -A OUTPUT -p icmp --icmp-type echo-reply -j DROP", 0, ""},
		{"iptables for IPv6", "ip6tables -A OUTPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP", 1, "table ip6 filter, chain OUTPUT"},
		{"iptables where the MSS is lowered", "iptables -A OUTPUT -p icmp -j DROP; iptables -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu", 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out := inNamespace(t, "TestReadMuted_findsWhatDropsICMP", child, test.rules)
			if n := strings.Count(out, "FOUND"); n != test.found || !strings.Contains(out, test.want) {
				t.Errorf("%d findings, want %d with %q:\n%s", n, test.found, test.want, out)
			}
		})
	}
}

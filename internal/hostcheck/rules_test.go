package hostcheck

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"tund/internal/testnet"
)

// firewalldLike is how firewalld 2 writes a zone, without what makes no difference.
func firewalldLike(allowed string) string {
	return "add table inet firewalld; add chain inet firewalld filter_INPUT { type filter hook input priority filter + 10; policy accept; }; " +
		"add chain inet firewalld filter_INPUT_POLICIES; add chain inet firewalld filter_IN_public; add chain inet firewalld filter_IN_public_allow; " +
		"add rule inet firewalld filter_INPUT ct state { established, related } accept; add rule inet firewalld filter_INPUT ct status dnat accept; " +
		"add rule inet firewalld filter_INPUT iifname lo accept; add rule inet firewalld filter_INPUT ct state invalid drop; " +
		"add rule inet firewalld filter_INPUT jump filter_INPUT_POLICIES; add rule inet firewalld filter_INPUT reject with icmpx admin-prohibited; " +
		"add rule inet firewalld filter_INPUT_POLICIES iifname eth7 jump filter_IN_public; add rule inet firewalld filter_INPUT_POLICIES jump filter_IN_public; " +
		"add rule inet firewalld filter_IN_public jump filter_IN_public_allow; add rule inet firewalld filter_IN_public meta l4proto { icmp, ipv6-icmp } accept; " +
		"add rule inet firewalld filter_IN_public_allow " + allowed
}

// ufwLike is how ufw writes the chains of IPv4, without what makes no difference.
const ufwLike = "iptables -P INPUT DROP; for c in before-input not-local user-input logging-deny skip-to-policy-input; do iptables -N ufw-$c; done; " +
	"iptables -A INPUT -j ufw-before-input; iptables -A ufw-before-input -i lo -j ACCEPT; " +
	"iptables -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; " +
	"iptables -A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny; iptables -A ufw-before-input -m conntrack --ctstate INVALID -j DROP; " +
	"iptables -A ufw-before-input -p icmp --icmp-type echo-request -j ACCEPT; iptables -A ufw-before-input -p udp --sport 67 --dport 68 -j ACCEPT; " +
	"iptables -A ufw-before-input -j ufw-not-local; iptables -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN; " +
	"iptables -A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN; iptables -A ufw-not-local -j DROP; " +
	"iptables -A ufw-before-input -d 224.0.0.251/32 -p udp --dport 5353 -j ACCEPT; iptables -A ufw-before-input -j ufw-user-input; "

// inNamespace runs a test in a process and network namespace of its own, where the variable child
// has the rules that the test is to set, and returns what it wrote.
func inNamespace(t *testing.T, test, child, rules string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+rules)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// setRules has the rules set by nft(8), or by the shell if they are commands of iptables.
func setRules(t *testing.T, rules string) {
	t.Helper()
	command := exec.Command("nft", rules)
	if strings.HasPrefix(rules, "ip") {
		command = exec.Command("sh", "-c", rules)
	}
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", rules, err, out)
	}
}

// TestReadRules_findsWhatDropsTheTraffic lets nft(8) write rules as administrators do, in a network
// namespace of its own for each set of rules.
func TestReadRules_findsWhatDropsTheTraffic(t *testing.T) {
	const child = "TUND_TEST_RULES"
	if rules := os.Getenv(child); rules != "" {
		setRules(t, rules)
		traffic := Traffic{Port: 51820, Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:51821")}, Device: "office"}
		list, err := ReadRules(traffic)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			t.Logf("FOUND %s | %s | %s", r.Hook, r, r.Remedy())
		}
		filters, err := ReadFilters(traffic)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range (&Tunnel{Filters: filters, Port: 51820}).firewall() {
			t.Logf("FILTER %s | %s", f.Message, f.Remedy)
		}
		return
	}
	testnet.Require(t)
	const base = "add table inet fw; add chain inet fw c { type filter hook "
	for _, test := range []struct {
		name, rules string
		want        []string // of each finding
	}{
		{"nothing", base + "input priority 0; }", nil},
		{"an ordinary firewall that lets our port in", base + "input priority 0; policy drop; }; add rule inet fw c iifname lo accept; " +
			"add rule inet fw c ct state established,related accept; add rule inet fw c udp dport 51820 accept", nil},
		{"one that does not", base + "input priority 0; policy drop; }; add rule inet fw c ct state established,related accept; " +
			"add rule inet fw c tcp dport 22 accept",
			[]string{"input | nftables: table inet fw, chain c: the policy is drop", "nft insert rule inet fw c udp dport 51820 accept"}},
		{"a rule against the port", base + "input priority 0; }; add rule inet fw c udp dport 51820 counter drop",
			[]string{"input", "chain c, handle 2", "nft delete rule inet fw c handle 2"}},
		{"an accepting rule before it", base + "input priority 0; }; add rule inet fw c udp dport 51820 accept; add rule inet fw c udp dport 51820 drop", nil},
		{"out to an endpoint", base + "output priority 0; }; add rule inet fw c ip daddr 192.0.2.2 udp dport 51821 drop", []string{"output", "handle 2"}},
		{"out from our port", base + "output priority 0; }; add rule inet fw c udp sport 51820 reject", []string{"output", "udp sport 51820 accept"}},
		{"out to somebody else", base + "output priority 0; }; add rule inet fw c ip daddr 192.0.2.3 drop; add rule inet fw c udp dport 53 drop; " +
			"add rule inet fw c tcp dport 51821 drop; add rule inet fw c meta skuid 12345 drop", nil},
		{"forwarding from the device", base + "forward priority 0; }; add rule inet fw c iifname office drop",
			[]string{"forward", "handle 2", `nft insert rule inet fw c iifname "office" accept`}},
		{"forwarding to devices of a kind", base + "forward priority 0; }; add rule inet fw c oifname off* drop", []string{"forward", "handle 2"}},
		{"forwarding of others", base + "forward priority 0; }; add rule inet fw c iifname eth7 drop; add rule inet fw c iifname office ct state invalid drop; " +
			"add rule inet fw c iifname office ip saddr 10.1.1.1 drop", nil},
		{"a last rule of iptables", "iptables -A FORWARD -j REJECT", []string{"forward", "chain FORWARD, handle"}},
		{"a rule of iptables against the port", "iptables -A INPUT -p udp --dport 51820 -j REJECT", []string{"input", "chain INPUT, handle"}},
		{"DNAT of our port", "add table ip n; add chain ip n c { type nat hook prerouting priority dstnat; }; " +
			"add rule ip n c iifname eth7 udp dport 51820 counter dnat to 192.0.2.9:51820",
			[]string{"nat", "table ip n, chain c, handle 2", "nft delete rule ip n c handle 2"}},
		{"a redirection in a chain of its own", "add table inet n; add chain inet n c { type nat hook prerouting priority dstnat; }; add chain inet n sub; " +
			"add rule inet n c jump sub; add rule inet n sub udp dport 51820 redirect to :53", []string{"nat", "chain sub, handle"}},
		{"DNAT of iptables", "iptables -t nat -A PREROUTING -p udp --dport 51820 -j DNAT --to 192.0.2.9", []string{"nat", "chain PREROUTING, handle"}},
		{"DNAT of others", "add table ip n; add chain ip n c { type nat hook prerouting priority dstnat; }; " +
			"add rule ip n c tcp dport 51820 dnat to 192.0.2.9; add rule ip n c udp dport 443 redirect to :51820; " +
			"add rule ip n c ip daddr 192.0.2.7 udp dport 51820 dnat to 192.0.2.9", nil},
		{"forwarding of one host only", base + "forward priority 0; policy drop; }; add rule inet fw c ip saddr 10.1.1.1 accept", nil},
		{"sets and maps of an ordinary firewall", base + "input priority 0; policy drop; }; add rule inet fw c iif lo accept; " +
			"add rule inet fw c ct state vmap { established : accept, related : accept, invalid : drop }; " +
			"add rule inet fw c meta l4proto { icmp, ipv6-icmp } accept; add rule inet fw c udp dport { 53, 51820 } accept", nil},
		{"the same without our port", base + "input priority 0; policy drop; }; add rule inet fw c iif lo accept; " +
			"add rule inet fw c ct state vmap { established : accept, related : accept, invalid : drop }; " +
			"add rule inet fw c meta l4proto { icmp, ipv6-icmp } accept; add rule inet fw c udp dport { 53, 1000-2000 } accept",
			[]string{"the policy is drop", "FILTER no peer is up, and the firewall of this host accepts nothing for UDP port 51820"}},
		{"a range with our port", base + "input priority 0; policy drop; }; add rule inet fw c udp dport 50000-52000 accept", nil},
		{"a list of blocked addresses", "add table inet fw; add set inet fw bad { type ipv4_addr; flags interval; elements = { 198.51.100.0/24 }; }; " +
			base + "input priority 0; }; add rule inet fw c ip saddr @bad drop", nil},
		{"a list in which a peer is", "add table inet fw; add set inet fw bad { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }; " +
			base + "input priority 0; }; add rule inet fw c ip saddr @bad drop",
			[]string{"chain c, handle", "FILTER a rule of the firewall of this host drops the datagrams of peers"}},
		{"a limit", base + "input priority 0; }; add rule inet fw c udp dport 51820 limit rate over 1000/second drop", nil},
		{"chains for links", base + "input priority 0; policy drop; }; add chain inet fw wan; " +
			"add rule inet fw wan udp dport 51820 accept; add rule inet fw c iifname vmap { eth7 : jump wan, lo : accept }", nil},
		{"answers that connection tracking does not know", base + "input priority 0; policy drop; }; add rule inet fw c ct state established,related accept; " +
			"add table inet raw; add chain inet raw r { type filter hook prerouting priority raw; }; add rule inet raw r udp dport 51820 notrack",
			[]string{"FILTER a rule takes the datagrams of UDP port 51820 out of connection tracking (nftables: table inet raw, chain r, handle"}},
		{"datagrams of ours that it does not know", base + "input priority 0; policy drop; }; add rule inet fw c ct state established,related accept; " +
			"add table ip raw; add chain ip raw r { type filter hook output priority raw; }; add rule ip raw r meta l4proto udp notrack",
			[]string{"FILTER a rule takes the datagrams of UDP port 51820 out of connection tracking (nftables: table ip raw, chain r, handle"}},
		{"the same of iptables", "iptables -P INPUT DROP; iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; " +
			"iptables -t raw -A PREROUTING -p udp --dport 51820 -j CT --notrack", []string{"FILTER a rule takes the datagrams of UDP port 51820 out"}},
		{"an accepting rule beside notrack", base + "input priority 0; policy drop; }; add rule inet fw c udp dport 51820 accept; " +
			"add table inet raw; add chain inet raw r { type filter hook prerouting priority raw; }; add rule inet raw r udp dport 51820 notrack", nil},
		// As firewalld writes them: the policy is accept, and the last rule rejects.
		{"firewalld that lets our port in", firewalldLike("udp dport 51820 accept"), nil},
		{"firewalld that does not", firewalldLike("tcp dport 22 accept"), []string{"input", "chain filter_INPUT, handle",
			"firewall-cmd --permanent --add-port=51820/udp && firewall-cmd --reload", "FILTER no peer is up, and the firewall"}},
		{"ufw that lets our port in", ufwLike + "iptables -A ufw-user-input -p udp --dport 51820 -j ACCEPT", nil},
		{"ufw that does not", ufwLike + "true", []string{"the policy is drop", "ufw allow 51820/udp", "FILTER no peer is up"}},
		{"a rule against all forwarding", base + "forward priority 0; }; add rule inet fw c iifname eth7 accept; add rule inet fw c reject",
			[]string{"forward", "handle 3", `nft insert rule inet fw c oifname "office" accept`}},
		{"a policy against forwarding", base + "forward priority 0; policy drop; }; add rule inet fw c ct state established accept; " +
			"add rule inet fw c iifname eth7 accept", []string{"forward", "the policy is drop, and no rule accepts"}},
		{"a policy against forwarding that lets echo requests pass", "iptables -P FORWARD DROP; " +
			"iptables -A FORWARD -p icmp --icmp-type echo-request -j ACCEPT", []string{"forward", "the policy is drop"}},
		{"a policy against forwarding, and one service", "iptables -P FORWARD DROP; iptables -A FORWARD -p tcp --dport 443 -j ACCEPT", nil},
		{"the same with an accepting rule in a chain of its own", base + "forward priority 0; policy drop; }; add chain inet fw sub; " +
			"add rule inet fw sub iifname office accept; add rule inet fw c jump sub", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out := inNamespace(t, "TestReadRules_findsWhatDropsTheTraffic", child, test.rules)
			if n := strings.Count(out, "FOUND"); n != min(len(test.want), 1) {
				t.Errorf("%d findings:\n%s", n, out)
			}
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

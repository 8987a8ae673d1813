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

// TestReadRules_findsWhatDropsTheTraffic lets nft(8) write rules as administrators do, in a network
// namespace of its own for each set of rules.
func TestReadRules_findsWhatDropsTheTraffic(t *testing.T) {
	const child = "TUND_TEST_RULES"
	if rules := os.Getenv(child); rules != "" {
		command := exec.Command("nft", rules)
		if strings.HasPrefix(rules, "iptables ") {
			command = exec.Command("sh", "-c", rules)
		}
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v\n%s", rules, err, out)
		}
		list, err := ReadRules(Traffic{Port: 51820, Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:51821")}, Device: "office"})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			t.Logf("FOUND %s | %s | %s", r.Hook, r, r.Remedy())
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
		{"a rule against all forwarding", base + "forward priority 0; }; add rule inet fw c iifname eth7 accept; add rule inet fw c reject",
			[]string{"forward", "handle 3", `nft insert rule inet fw c oifname "office" accept`}},
		{"a policy against forwarding", base + "forward priority 0; policy drop; }; add rule inet fw c ct state established accept; " +
			"add rule inet fw c iifname eth7 accept", []string{"forward", "the policy is drop, and no rule accepts"}},
		{"the same with an accepting rule in a chain of its own", base + "forward priority 0; policy drop; }; add chain inet fw sub; " +
			"add rule inet fw sub iifname office accept; add rule inet fw c jump sub", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestReadRules_findsWhatDropsTheTraffic$", "-test.v")
			cmd.Env = append(os.Environ(), child+"="+test.rules)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if n := strings.Count(string(out), "FOUND"); n != min(len(test.want), 1) {
				t.Errorf("%d findings:\n%s", n, out)
			}
			for _, want := range test.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

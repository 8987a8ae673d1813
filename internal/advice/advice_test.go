package advice

import (
	"net/netip"
	"testing"
)

func TestHosts(t *testing.T) {
	t.Parallel()
	for network, want := range map[string][2]string{
		"10.20.0.0/16": {"10.20.0.1", "10.20.255.254"},
		"10.20.3.9/30": {"10.20.3.9", "10.20.3.10"},
		"10.20.0.7/32": {"10.20.0.7", "10.20.0.7"},
		"fd20::/64":    {"fd20::1", "fd20::ffff:ffff:ffff:fffe"},
		"0.0.0.0/0":    {"192.0.0.8", "192.0.0.8"},
		"::/0":         {"2001:db8:995c:3d71::1", "2001:db8:995c:3d71::1"},
	} {
		first, last := hosts(netip.MustParsePrefix(network))
		if first.String() != want[0] || last.String() != want[1] {
			t.Errorf("%s: %v to %v, want %v", network, first, last, want)
		}
	}
}

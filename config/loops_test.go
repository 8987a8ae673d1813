package config

import (
	"fmt"
	"testing"
)

func TestLoad_warnsOfEndpointsInsideAllowedIPs(t *testing.T) {
	t.Parallel()
	const second = "[[peer]]\nname = \"paris\"\npublic_key = \"" + pubC + "\"\n"
	own := func(place, addr, prefix string) string {
		return fmt.Sprintf("%s: warning: peer 1: endpoint: %s is inside the peer's own allowed IP %s: unless a more specific route leads there, "+
			"our datagrams to it go into the tunnel itself", place, addr, prefix)
	}
	checkMessages(t, []messageTest{
		{"own endpoint", peerSection + callable + "allowed_ips = [\"192.0.2.0/24\"]\n", own("6:12", "192.0.2.1", "192.0.2.0/24")},
		{"second of a list, IPv6", peerSection + "endpoint = [\"a:1\", \"[2001:db8::1]:2\"]\nallowed_ips = [\"2001:db8::/32\"]\n",
			own("6:20", "2001:db8::1", "2001:db8::/32")},
		{"mapped address", peerSection + "endpoint = \"[::ffff:192.0.2.1]:2\"\nallowed_ips = [\"192.0.2.0/24\"]\n",
			own("6:12", "192.0.2.1", "192.0.2.0/24")},
		{"full tunnel", peerSection + callable + "allowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n", ""},
		{"beside a full tunnel", peerSection + callable + "allowed_ips = [\"0.0.0.0/0\", \"::/0\", \"192.0.2.0/25\"]\n",
			own("6:12", "192.0.2.1", "192.0.2.0/25")},
		{"no routes", tunSection + "routes = \"off\"\n" + peerSection[len(tunSection):] + callable + "allowed_ips = [\"192.0.2.0/24\"]\n", ""},
		{"own table", tunSection + "table = 7\n" + peerSection[len(tunSection):] + callable + "allowed_ips = [\"192.0.2.0/24\"]\n", ""},
		{"by name", peerSection + "endpoint = \"berlin.example.org:1\"\nallowed_ips = [\"192.0.2.0/24\"]\n", ""},
		{"tunnel in a tunnel", peerSection + callable + "allowed_ips = [\"10.0.0.0/8\"]\n" + second + "endpoint = \"198.51.100.1:1\"\nallowed_ips = [\"192.0.2.0/24\"]\n", ""},
		{"the longest counts", peerSection + callable + "allowed_ips = [\"192.0.0.0/16\"]\n" + second + "endpoint = \"198.51.100.1:1\"\nallowed_ips = [\"192.0.2.0/24\"]\n", ""},
		{"each in the other", peerSection + callable + "allowed_ips = [\"198.51.100.0/24\"]\n" + second + "endpoint = \"198.51.100.1:1\"\nallowed_ips = [\"192.0.2.0/24\"]\n",
			"6:12: warning: peer 1: endpoint: 192.0.2.1 is inside the allowed IP 192.0.2.0/24 of peer \"paris\", whose own endpoint is inside allowed IPs, too: " +
				"a tunnel inside a tunnel works one level deep only\n" +
				"11:12: warning: peer \"paris\": endpoint: 198.51.100.1 is inside the allowed IP 198.51.100.0/24 of peer 1, whose own endpoint is inside allowed IPs, too: " +
				"a tunnel inside a tunnel works one level deep only"},
	})
}

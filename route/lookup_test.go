package route

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"tund/internal/testnet"
)

func TestManager_Departure(t *testing.T) {
	t.Parallel()
	a, b := testnet.New(t), testnet.New(t)
	testnet.Veth(t, a, b, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24"})
	testnet.Veth(t, a, b, []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"})
	a.Run(t, "ip", "rule", "add", "fwmark", "7", "table", "77")
	a.Run(t, "ip", "route", "add", "192.0.2.0/24", "dev", "eth1", "table", "77")
	var m *Manager
	var eth0, eth1 int
	a.Do(func() {
		var err error
		if m, err = New("departs"); err != nil {
			t.Fatal(err)
		}
		eth0, eth1 = indexOf(t, "eth0"), indexOf(t, "eth1")
	})
	defer func() { _ = m.Close() }()
	tests := []struct {
		name, dst, src string
		mark           uint32
		want           int
	}{
		{"IPv4", "192.0.2.2", "192.0.2.1", 0, eth0},
		{"IPv6", "2001:db8::2", "2001:db8::1", 0, eth0},
		{"the other link's address", "192.0.2.2", "198.51.100.1", 0, eth0},
		{"policy routing", "192.0.2.2", "192.0.2.1", 7, eth1},
		{"not our address", "192.0.2.2", "192.0.2.9", 0, 0},
		{"no way", "203.0.113.1", "192.0.2.1", 0, 0},
	}
	for _, tt := range tests {
		got, err := m.Departure(netip.MustParseAddr(tt.dst), netip.MustParseAddr(tt.src), tt.mark)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%s: Departure(%s, %s, %d) = %d, %v, want %d", tt.name, tt.dst, tt.src, tt.mark, got, err, tt.want)
		}
	}
}

func indexOf(t *testing.T, name string) int {
	t.Helper()
	link, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Index
}

func TestManager_pathMTUIsTheSmallestOfTheWays(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	m := newInside(t, ns, "office")
	ns.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2", "mtu", "1400")
	ns.Run(t, "ip", "route", "add", "2001:db8:5::/64", "via", "2001:db8::2", "mtu", "1300")
	for _, c := range []struct {
		endpoints []string
		want      int
		failed    bool
	}{
		{nil, DefaultPathMTU, false},
		{[]string{"203.0.113.1"}, 1500, false},
		{[]string{"203.0.113.1", "198.51.100.7"}, 1400, false},
		{[]string{"203.0.113.1", "198.51.100.7", "2001:db8:5::1"}, 1300, false},
		{[]string{"::ffff:198.51.100.7"}, 1400, false},
		{[]string{"127.0.0.1", "192.0.2.1", "::1"}, DefaultPathMTU, false},
		{[]string{"2001:db8:ffff::1", "198.51.100.7"}, 1400, true}, // no IPv6 default route
	} {
		var addrs []netip.Addr
		for _, e := range c.endpoints {
			addrs = append(addrs, netip.MustParseAddr(e))
		}
		got, err := m.PathMTU(addrs, 0)
		if got != c.want || (err != nil) != c.failed {
			t.Errorf("PathMTU(%v) = %d, %v, want %d, error %t", c.endpoints, got, err, c.want, c.failed)
		}
	}
	ns.Run(t, "ip", "link", "set", "eth0", "mtu", "1290")
	if got, err := m.PathMTU([]netip.Addr{netip.MustParseAddr("203.0.113.1")}, 0); got != 1290 || err != nil {
		t.Errorf("PathMTU = %d, %v, want the link's 1290", got, err)
	}
}

// Routers say what they like, and whoever forges their messages too: the kernel believes it, and we
// do not.
func TestManager_pathMTUIgnoresICMP(t *testing.T) {
	t.Parallel()
	ns, router, far := testnet.New(t), testnet.New(t), testnet.New(t)
	testnet.Veth(t, ns, router, []string{"192.0.2.1/24", "2001:db8:1::1/64"}, []string{"192.0.2.2/24", "2001:db8:1::2/64"})
	_, narrow := testnet.Veth(t, router, far, []string{"198.51.100.1/24", "2001:db8:2::1/64"},
		[]string{"198.51.100.2/24", "2001:db8:2::2/64"})
	router.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	router.Run(t, "ip", "link", "set", "eth1", "mtu", "1300")
	far.Run(t, "ip", "link", "set", narrow, "mtu", "1300")
	ns.Run(t, "ip", "route", "add", "default", "via", "192.0.2.2", "mtu", "1480")
	ns.Run(t, "ip", "route", "add", "default", "via", "2001:db8:1::2")
	far.Run(t, "ip", "route", "add", "default", "via", "198.51.100.1")
	far.Run(t, "ip", "route", "add", "default", "via", "2001:db8:2::1")
	m := newInside(t, ns, "office")
	for _, c := range []struct {
		endpoint string
		want     int
	}{{"198.51.100.2", 1480}, {"2001:db8:2::2", 1500}} {
		if out, err := ns.Try("ping", "-c1", "-W1", "-M", "do", "-s", "1400", c.endpoint); err == nil {
			t.Fatalf("a packet of more than 1,400 bytes passed a link of 1300: %s", out)
		}
		if out := ns.Run(t, "ip", "route", "get", c.endpoint); !strings.Contains(out, "mtu 1300") {
			t.Fatalf("the kernel did not learn the path MTU: %s", out)
		}
		if got, err := m.PathMTU([]netip.Addr{netip.MustParseAddr(c.endpoint)}, 0); got != c.want || err != nil {
			t.Errorf("PathMTU(%s) = %d, %v, want %d", c.endpoint, got, err, c.want)
		}
	}
}

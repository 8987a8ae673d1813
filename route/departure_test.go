package route

import (
	"net"
	"net/netip"
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

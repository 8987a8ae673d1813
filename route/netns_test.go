package route

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"tund/internal/testnet"
)

// newInside returns a Manager that works in ns.
func newInside(t *testing.T, ns *testnet.NS, instance string) *Manager {
	t.Helper()
	var m *Manager
	ns.Do(func() {
		var err error
		if m, err = New(instance); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestManager_fullTunnelInANamespace(t *testing.T) {
	t.Parallel()
	a, b := testnet.New(t), testnet.New(t)
	testnet.Veth(t, a, b, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	a.Run(t, "ip", "route", "add", "default", "via", "192.0.2.2")
	a.Run(t, "ip", "tuntap", "add", "dev", "office", "mode", "tun")
	a.Run(t, "ip", "tuntap", "add", "dev", "office-tap", "mode", "tap")
	before := a.Snapshot()
	m := newInside(t, a, "office")
	s := State{Devices: []Device{
		{
			Name: "office", Addrs: prefixes("10.9.0.1/24", "fd09::1/64"), MTU: 1420, Up: true,
			Routes: RoutesFor(prefixes("0.0.0.0/0", "::/0", "10.9.0.0/24", "10.20.0.0/16", "fd20::/48"), 0, 0),
		},
		{Name: "office-tap", Up: true, Bridge: "br0"},
	}}
	got, err := m.Apply(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("applied:\n%s%s", got, a.Snapshot())
	for dst, want := range map[string]string{
		"203.0.113.1":           "dev office ",
		"192.0.2.2":             "dev office ", // public, so not "local" however near
		"10.20.1.1":             "dev office ",
		"2001:db8:9::1":         "dev office ",
		"fd20::1":               "dev office ",
		"127.0.0.1":             "dev lo ",
		"10.9.0.1":              "dev lo ",
		"203.0.113.1 mark 0x75": "",
	} {
		if want == "" {
			continue
		}
		if out := a.Run(t, append([]string{"ip", "route", "get"}, strings.Fields(dst)...)...); !strings.Contains(out, want) {
			t.Errorf("ip route get %s = %q, want %q", dst, out, want)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if after := a.Snapshot(); after != before {
		t.Errorf("after Close\ngot:\n%swant:\n%s", after, before)
	}
}

func prefixes(text ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range text {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

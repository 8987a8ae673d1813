package desired

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"tund/config"
	"tund/crypto/keys"
	"tund/route"
)

func TestRouteState_translates(t *testing.T) {
	t.Parallel()
	for own, theirs := range map[config.LocalNetworks]route.LocalNetworks{
		config.LocalPrivate: route.LocalPrivate, config.LocalAll: route.LocalAll, config.LocalNone: route.LocalNone,
	} {
		if s := State(&config.Config{Tun: &config.Tun{LocalNetworks: own}}, nil, 0, 0); s.LocalNetworks != theirs {
			t.Errorf("local_networks %v became %v, want %v", own, s.LocalNetworks, theirs)
		}
	}
	prefix := netip.MustParsePrefix
	c := &config.Config{
		Tunnel: config.Tunnel{FwMark: 7},
		Tun:    &config.Tun{Device: "office", Addresses: []netip.Prefix{prefix("10.9.0.1/24")}, Routes: true, Table: 5, Metric: 9},
		Tap:    &config.Tap{Device: "lan", Bridge: "br0"},
		Peers:  []config.Peer{{AllowedIPs: []netip.Prefix{prefix("10.1.0.0/16")}}, {AllowedIPs: []netip.Prefix{prefix("::/0")}}},
	}
	got := State(c, []netip.Prefix{prefix("10.2.0.0/16")}, 1420, 9000)
	want := route.State{FwMark: 7, Devices: []route.Device{
		{Name: "office", Addrs: c.Tun.Addresses, MTU: 1420, Up: true, Routes: []route.Route{
			{Dst: prefix("10.1.0.0/16"), Table: 5, Metric: 9}, {Dst: prefix("::/0"), Table: 5, Metric: 9},
			{Dst: prefix("10.2.0.0/16"), Table: 5, Metric: 9}}},
		{Name: "lan", Bridge: "br0", MTU: 9000, Up: true},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	c.Tun.Routes = false
	if got := State(c, nil, 0, 0); got.Devices[0].Routes != nil {
		t.Errorf("routes = off gives %v", got.Devices[0].Routes)
	}
}

func TestTunMTU_leavesRoomForTheTunnel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ configured, path, want int }{
		{0, 1500, 1420}, {0, 1492, 1412}, {0, 9000, 8920}, {0, 1280, 1280}, {0, 576, 1280}, {1300, 1500, 1300}, {9000, 1500, 9000},
	} {
		if got := TunMTU(&config.Config{Tun: &config.Tun{MTU: test.configured}}, test.path); got != test.want {
			t.Errorf("mtu = %d on a path of %d: %d, want %d", test.configured, test.path, got, test.want)
		}
	}
	if got := TunMTU(&config.Config{}, 1500); got != 0 {
		t.Errorf("without [tun]: %d", got)
	}
}

// Only an allowed IP that several peers have is shared; every other one is taken from whoever had
// it.
func TestPeersChange_sharesWhatSeveralPeersHave(t *testing.T) {
	t.Parallel()
	site, one := netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("10.9.0.2/32")
	c := &config.Config{Peers: []config.Peer{
		{PublicKey: keys.PublicKey{1}, AllowedIPs: []netip.Prefix{one, site}, Priority: 10},
		{PublicKey: keys.PublicKey{2}, AllowedIPs: []netip.Prefix{site}},
	}}
	none := func(config.Peer) []netip.AddrPort { return nil }
	got := Peers(c, none).Peers
	if !slices.Equal(got[0].AllowedIPs, []netip.Prefix{one}) || !slices.Equal(got[0].SharedIPs, []netip.Prefix{site}) || *got[0].Priority != 10 ||
		len(got[1].AllowedIPs) != 0 || !slices.Equal(got[1].SharedIPs, []netip.Prefix{site}) || *got[1].Priority != 0 {
		t.Errorf("%+v", got)
	}
	c.Peers = c.Peers[:1]
	if got := Peers(c, none).Peers[0]; !slices.Equal(got.AllowedIPs, []netip.Prefix{one, site}) || got.SharedIPs != nil {
		t.Errorf("alone: %+v", got)
	}
}

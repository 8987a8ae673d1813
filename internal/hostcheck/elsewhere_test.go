package hostcheck

import (
	"net/netip"
	"strings"
	"testing"
)

func TestFind_routeThatLeadsPastTheDevice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, prefix string
		change       func(*Tunnel, *Host)
		want         bool
	}{
		{"another route", "10.20.0.0/16", func(*Tunnel, *Host) {}, true},
		{"another route, to one host", "10.20.0.1/32", func(*Tunnel, *Host) {}, true},
		{"routes are not ours", "10.20.0.0/16", func(x *Tunnel, _ *Host) { x.Routed = false }, false},
		{"the whole Internet", "0.0.0.0/0", func(*Tunnel, *Host) {}, false},
		{"a network of the host", "10.20.0.0/16", func(_ *Tunnel, h *Host) {
			h.Links[2].Addrs = append(h.Links[2].Addrs, netip.MustParsePrefix("10.20.0.1/24"))
		}, false},
	} {
		x, h := gateway()
		x.Routed, x.Astray = true, []Astray{{Prefix: netip.MustParsePrefix(c.prefix), Link: "wan"}}
		for i := range h.Links {
			h.Links[i].Up = true
		}
		c.change(&x, &h)
		found := false
		for _, f := range Find(x, h) {
			found = found || f.Kind == Elsewhere && strings.Contains(f.Message, "leads it to wan") && strings.Contains(f.Remedy, "ip route get 10.20.0.1 ")
		}
		if found != c.want {
			t.Errorf("%s: %t, want %t: %+v", c.name, found, c.want, Find(x, h))
		}
	}
}

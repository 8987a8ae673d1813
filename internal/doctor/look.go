package doctor

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"tund/internal/control"
	"tund/internal/hostcheck"
)

// Look examines the host for Examine: the network namespace of the caller has to be that of the
// instance. It changes nothing. What the caller may not see is named in the result.
func Look(i *control.Instance) *Host {
	h := &Host{ClockUnsynced: hostcheck.ClockUnsynced(), FiltersBridged: hostcheck.FiltersBridged()}
	t := hostcheck.Tunnel{}
	for _, d := range i.Devices {
		if d.Kind == "tun" {
			t.Device = d.Name
			continue
		}
		t.Own = append(t.Own, d.Name, d.Bridge)
		if p, ok := hostcheck.BridgePort(d.Name); ok {
			h.Bridges = append(h.Bridges, Bridge{Device: d.Name, Name: p.Bridge, VLANFiltering: p.VLANFiltering})
		}
	}
	traffic := hostcheck.Traffic{Port: uint16(i.ListenPort)}
	for n := range i.Peers {
		p := &i.Peers[n]
		for _, text := range p.AllowedIPs {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				t.Allowed = append(t.Allowed, prefix)
			}
		}
		if a, err := netip.ParseAddrPort(p.Endpoint); err == nil {
			traffic.Endpoints = append(traffic.Endpoints, a)
		}
	}
	if t.Device != "" {
		if overlaps, err := hostcheck.Overlaps(t.Allowed, t.Device); err == nil {
			for _, o := range overlaps {
				h.Overlaps = append(h.Overlaps, Overlap{o.Prefix.String(), o.Link})
			}
		}
		if host, err := hostcheck.Read(); err == nil && t.Gateway(host) {
			traffic.Device = t.Device
		}
	}
	var err error
	switch h.Rules, err = hostcheck.ReadRules(traffic); {
	case errors.Is(err, unix.EPERM):
		h.RulesUnseen = "only root may read them (sudo tunctl doctor)"
	case err != nil:
		h.RulesUnseen = fmt.Sprint(err)
	}
	return h
}

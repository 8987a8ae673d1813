package desired

import (
	"net/netip"

	"tund/config"
	"tund/route"
	"tund/route/bridgevlan"
)

// Routes returns the kernel routes for allowed IPs, as a configuration wants them.
func Routes(c *config.Config, allowed []netip.Prefix) []route.Route {
	if c.Tun == nil || !c.Tun.Routes {
		return nil
	}
	return route.RoutesFor(allowed, uint32(c.Tun.Table), uint32(c.Tun.Metric))
}

// Pointers returns pointers to the elements of a list.
func Pointers(peers []config.Peer) []*config.Peer {
	list := make([]*config.Peer, len(peers))
	for i := range peers {
		list[i] = &peers[i]
	}
	return list
}

// TapMTU is the MTU for the TAP device: as configured, or that of Ethernet; 0 with a bridge, whose
// ports determine it then.
func TapMTU(c *config.Config) int {
	switch {
	case c.Tap == nil:
		return 0
	case c.Tap.MTU == 0 && c.Tap.Bridge == "":
		return route.DefaultPathMTU
	}
	return c.Tap.MTU
}

// PortVLANs is what the port of the TAP is to have at a VLAN-aware bridge: what the configuration
// says, or what the peers need.
func PortVLANs(c *config.Config) bridgevlan.Want {
	w := bridgevlan.Want{Device: c.Tap.Device, VLANs: c.Tap.BridgeVLANs, PVID: bridgevlan.Keep}
	if c.Tap.BridgePVID >= 0 {
		w.PVID = c.Tap.BridgePVID
	}
	if w.VLANs != nil {
		return w
	}
	for n := range c.Peers {
		if p := &c.Peers[n]; p.Ethernet {
			for _, v := range append([]uint16{p.PVID}, p.VLANs...) {
				if v != 0 && int(v) != w.PVID {
					w.VLANs = append(w.VLANs, v)
				}
			}
		}
	}
	return w
}

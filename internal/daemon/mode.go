package daemon

import (
	"context"
	"net/netip"

	"tund/config"
	"tund/internal/desired"
	"tund/route"
)

// mode is the difference between an instance with a configuration file and an interface without
// one. It is decided completely at the start.
type mode struct {
	// steps are those of the start, in order.
	steps []step
	// wanted is the wanted state of the kernel for a configuration, and for allowed IPs of peers
	// that are not in it, if the TUN device has a given MTU.
	wanted func(c *config.Config, further []netip.Prefix, tunMTU int) route.State
	// managed: we own the network configuration of the devices. It is applied again when others
	// change it, and an instance whose device is gone has failed.
	managed bool
	// fixed tells why tunctl cannot change or reload the configuration; nil: it can.
	fixed error
}

// step is one step of a start.
type step struct {
	what string
	do   func(context.Context) error
}

// fileMode is an instance with a configuration file.
func (d *Daemon) fileMode() mode {
	return mode{
		steps: []step{
			{"claim instance", d.claim},
			{"take over", d.takeOver},
			{"open netlink", d.openRoutes},
			{"open netlink", d.openBridgeVLANs},
			{"read timestamps", d.openStamps},
			{"open devices", d.openDevices},
			{"open tunnel", d.openTunnel},
			{"configure network", d.configureNetwork},
			{"open WireGuard socket", d.openSocket},
			{"open socket for the agent", d.openAgentSocket},
			{"open metrics", d.openWeb},
			{"run", d.launch},
		},
		wanted: func(c *config.Config, further []netip.Prefix, tunMTU int) route.State {
			return desired.State(c, further, tunMTU, desired.TapMTU(c))
		},
		managed: true,
	}
}

// interfaceMode is an interface without a file.
func (d *Daemon) interfaceMode(i *Interface) mode {
	return mode{
		steps: []step{
			{"open device", func(ctx context.Context) error { return d.openInterface(ctx, i.Tun) }},
			{"claim instance", d.claimIfPossible},
			{"watch network", d.observe},
			{"open tunnel", d.openTunnel},
			{"open WireGuard socket", func(ctx context.Context) error { return d.openInterfaceSocket(ctx, i.Socket) }},
			{"read link state", d.assumeDown},
			{"run", d.launch},
			{"report readiness", func(context.Context) error { i.Ready(); return nil }},
		},
		// Only the network around the device is of interest.
		wanted: func(c *config.Config, _ []netip.Prefix, _ int) route.State {
			return route.State{Devices: []route.Device{{Name: c.Tun.Device}}}
		},
		fixed: errNoFile,
	}
}

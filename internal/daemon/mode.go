package daemon

import (
	"context"

	"tund/config"
	"tund/route"
)

// mode is what an instance with a configuration file and an interface without one do differently:
// all of it is decided at the start.
type mode struct {
	// steps are those of the start, in order.
	steps []step
	// wanted is what the kernel is to have for a configuration whose TUN device has an MTU.
	wanted func(c *config.Config, tunMTU int) route.State
	// managed: the network configuration of the devices is ours. It is applied again when others
	// change it, and an instance whose device is gone has failed.
	managed bool
	// fixed says why the configuration cannot be changed by tunctl or read again; nil: it can.
	fixed error
}

// step is one part of a start.
type step struct {
	what string
	do   func(context.Context) error
}

// fileMode is an instance with a configuration file.
func (d *Daemon) fileMode() mode {
	return mode{
		steps: []step{
			{"claim instance", d.claim},
			{"open netlink", d.openRoutes},
			{"read timestamps", d.openStamps},
			{"open devices", d.openDevices},
			{"open tunnel", d.openTunnel},
			{"configure network", d.configureNetwork},
			{"open WireGuard socket", d.openSocket},
			{"run", d.launch},
		},
		wanted:  func(c *config.Config, tunMTU int) route.State { return routeState(c, tunMTU, tapMTU(c)) },
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
		// Only what goes on around the device is of interest.
		wanted: func(c *config.Config, _ int) route.State {
			return route.State{Devices: []route.Device{{Name: c.Tun.Device}}}
		},
		fixed: errNoFile,
	}
}

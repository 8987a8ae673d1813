package daemon

import (
	"context"
	"net"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/advice"
	"tund/internal/desired"
	"tund/internal/statusview"
	"tund/tunnel"
)

// How often the network around the instance is checked.
const (
	// lookPause is the least time between two checks: changes of routes come in bursts.
	lookPause = time.Second
	// lookEvery is the time after which the network is checked without a reason: nothing announces
	// that a peer has moved behind a route into the tunnel.
	lookEvery = 30 * time.Second
	// lookShare limits the share of time spent on checks to one part in this number. Ten thousand
	// endpoints take a while.
	lookShare = 100
)

// lookSoon makes follow check the network soon.
func (d *Daemon) lookSoon() {
	select {
	case d.nudge <- struct{}{}:
	default:
	}
}

// follow checks the network whenever it has changed, and at intervals, until ctx ends.
func (d *Daemon) follow(ctx context.Context) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.nudge:
		case <-timer.C:
		}
		start := time.Now()
		d.lookAround()
		took := time.Since(start)
		timer.Reset(max(lookEvery, lookShare*took))
		rest.Reset(max(lookPause, 10*took))
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
		}
	}
}

// lookAround checks the network: our addresses, the paths to the peers, and whether these lead into
// the tunnel. It tries again what the kernel refused.
func (d *Daemon) lookAround() {
	peers, mark, ok := d.lookClose()
	if !ok {
		return
	}
	d.checkPaths(false)
	// No change waits for this, which asks the kernel thousands of questions. A change that comes
	// meanwhile and makes another check necessary asks for it.
	path := desired.LookUpPaths(d.routes, d.names, peers, d.tunnel.Endpoints, mark)
	d.takePaths(path, mark)
	d.heap.Worked(d.tunnel.PeerCount())
}

// lookClose checks what is nearest to the instance: our addresses, the interface to which we are
// bound, and the routes through the device. It returns whose paths are to be looked up, and with
// which mark; ok is false when the instance stops.
func (d *Daemon) lookClose() (peers []*config.Peer, mark uint32, ok bool) {
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping {
		return nil, 0, false
	}
	d.lookAddresses()
	d.door.Retry()
	_ = d.noteWeb()
	mark = d.mark(d.config)
	d.followBinding(mark)
	d.followVia()
	return d.peersOf(d.config), mark, true
}

// takePaths puts in force what was found out about the paths to the peers.
func (d *Daemon) takePaths(path desired.Paths, mark uint32) {
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping {
		return
	}
	d.mu.Lock()
	was := d.path.Device
	d.path = path
	d.mu.Unlock()
	refused := d.problems.Has(statusview.KindNetwork, "")
	d.tunnel.SetPathMTU(path.Least)
	d.tunnel.SetInterfaceMTUs(path.MTU)
	if path.Device != was {
		d.log.Info("the MTU of the path to the peers has changed", zap.Int("mtu", path.Device), zap.Int("was", was))
	}
	reapply := d.reapply.Swap(false)
	if d.mode.managed && (refused || reapply || desired.TunMTU(d.config, path.Device) != d.mtu) {
		if err := d.applyRoutes(d.life); err != nil && d.life.Err() == nil && !refused {
			d.log.Warn("the network configuration is incomplete; it will be tried again", zap.Error(err))
		}
	}
	d.applyBridgeVLANs() // a bridge may have become VLAN-aware, which nothing announces
	advice.FindLoops(d.routes, &d.problems, d.tunnel.Endpoints, mark, d.port)
}

// followVia gives the tunnel the routes of the host by which a packet chooses its peer. Callers
// hold changing.
func (d *Daemon) followVia() {
	c := d.config
	if c.Tun == nil || !c.Tun.SystemRouting {
		d.tunnel.NoVia()
		return
	}
	found, err := d.routes.Through(c.Tun.Device)
	if err != nil {
		d.log.Debug("cannot list the routes through the device", zap.Error(err))
		return // what was known stays
	}
	routes := make([]tunnel.ViaRoute, len(found))
	for i, r := range found {
		routes[i] = tunnel.ViaRoute(r)
	}
	d.tunnel.SetVia(routes)
}

// followBinding opens new sockets when the interface to which they are bound was replaced by
// another of its name, as a PPP link is when it comes up again. Callers hold changing.
func (d *Daemon) followBinding(mark uint32) {
	name := d.config.Tunnel.BindDevice
	if name == "" {
		return
	}
	link, err := net.InterfaceByName(name)
	if err != nil || link.Index == d.bound {
		return // while it is away there is nothing to bind to
	}
	first := d.bound == 0
	if !first {
		if err := d.rebind(d.config, d.port, mark); err != nil {
			d.log.Warn("cannot bind to the interface again", zap.String("iface", name), zap.Error(err))
			return
		}
		d.log.Info("bound to the interface that has this name now", zap.String("iface", name))
	}
	d.bound = link.Index
}

// lookAddresses tells the tunnel the addresses of this host.
func (d *Daemon) lookAddresses() {
	if addrs, err := d.routes.Addresses(); err == nil {
		d.tunnel.SetLocalAddresses(addrs)
	} else {
		d.log.Debug("cannot list addresses", zap.Error(err))
	}
}

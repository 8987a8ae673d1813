package daemon

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/acquire"
	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/news"
	"tund/internal/resolve"
	"tund/internal/sdnotify"
	"tund/internal/statusview"
	"tund/route"
	"tund/tunnel"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// The steps of a start.

func (d *Daemon) claim(context.Context) error {
	s, err := control.Listen(control.Options{Instance: d.config.Instance, Version: d.opts.Version, Log: d.log})
	if err != nil {
		return err
	}
	d.control = s
	d.undo.push(s.Close)
	d.notify, err = sdnotify.FromEnvironment()
	if err != nil {
		d.log.Warn("cannot notify systemd", zap.Error(err))
	}
	return nil
}

// openRoutes opens the access to the kernel's network state. What a killed instance of this name
// left behind is corrected when that state is applied; if it were corrected earlier, a full tunnel
// would be open for a moment.
func (d *Daemon) openRoutes(context.Context) error {
	m, err := route.New(d.config.Instance)
	if err != nil {
		return err
	}
	d.routes = m
	m.Bind(d.config.Tunnel.BindDevice)
	d.undo.push(d.closeRoutes)
	blocked, err := m.Fenced()
	if err != nil {
		return err
	}
	if d.fenced = len(blocked) > 0; d.config.Agent != nil {
		d.agent.blocked = blocked
	}
	if d.fenced {
		d.log.Info("traffic for the tunnel is still blocked by an earlier run", zap.String("instance", d.config.Instance))
	}
	return nil
}

func (d *Daemon) openDevices(ctx context.Context) error {
	c := d.config
	lanes := desired.Lanes(c)
	if c.Tun != nil {
		if err := d.openDevice(ctx, tundev.Options{Name: c.Tun.Device, Kind: tundev.TUN, Offload: c.Tunnel.Offload, Queues: lanes}); err != nil {
			return err
		}
	}
	if c.Tap != nil {
		return d.openDevice(ctx, tundev.Options{
			Name: c.Tap.Device, Kind: tundev.TAP, Offload: c.Tunnel.Offload, Queues: lanes,
			MAC: desired.TapMAC(c.Tunnel.PrivateKey.Public(), c.Instance, c.Tap.Device),
		})
	}
	return nil
}

func (d *Daemon) openDevice(ctx context.Context, o tundev.Options) error {
	dev := d.inheritDevice(o)
	if dev == nil {
		var err error
		if dev, err = acquire.Device(ctx, o); err != nil {
			return err
		}
	}
	d.devices = append(d.devices, dev)
	d.undo.push(dev.Close)
	if why := dev.Fallback(); why != "" && o.Offload {
		d.log.Warn("device works without offload, which is slower", zap.String("iface", o.Name), zap.String("reason", why))
		d.problems.Note(statusview.KindOffload, o.Name, "works without offload, which is slower: "+why)
	}
	return nil
}

func (d *Daemon) openTunnel(ctx context.Context) error {
	c := d.config
	costs, err := desired.Ciphers(c.Tunnel.Cipher)
	if err != nil {
		return err
	}
	d.names = resolve.New(resolve.Options{
		Log: d.log, Lookup: resolve.MarkedLookup(d.currentMark, d.outsideDNS), Reachable: d.reachable, Changed: d.resolved, PrefixChanged: d.prefixChanged,
		Down: func(key keys.PublicKey) bool { return d.tunnel.PeerState(key) == tunnel.StateDown },
	})
	d.names.SetPeers(c.Peers)
	mark := d.mark(c)
	acquire.AwaitLink(ctx, c.Tunnel.BindDevice, func() { d.log.Warn("waiting for bind_device", zap.String("iface", c.Tunnel.BindDevice)) })
	sockets := d.inheritSockets(acquire.SocketOptions(c, c.Tunnel.ListenPort, mark), desired.Lanes(c))
	if sockets == nil {
		err := acquire.Patiently(ctx, unix.EADDRINUSE, func() (err error) {
			sockets, err = acquire.Sockets(c, c.Tunnel.ListenPort, mark)
			return err
		})
		if err != nil {
			return err
		}
	}
	d.port, d.sockets = sockets[0].Port(), sockets
	d.path = desired.LookUpPaths(d.routes, d.names, desired.Pointers(c.Peers), nil, mark)
	d.mtu = desired.TunMTU(c, d.path.Device)
	o := tunnel.Options{
		PrivateKey: c.Tunnel.PrivateKey, Conns: acquire.Conns(sockets), Log: d.log, Ciphers: costs,
		VerifyInnerChecksums: c.Tunnel.VerifyInnerChecksum, Ethernet: desired.Ethernet(c.Tap),
		PathFound: d.lookSoon,
	}
	o.Failover = func(to, from string, prefixes int) { news.Failover(d.events, to, from, prefixes) }
	// The clock of the switch calls it.
	o.Ethernet.Follow = func(n tunnel.EthernetNews) { news.Switch(d.events, n) }
	o.Ethernet.Switch.Node = desired.SwitchNode(c.Tunnel.PrivateKey.Public())
	if d.stamps != nil {
		o.Timestamps = d.stamps
	}
	for _, dev := range d.devices {
		mtu := d.mtu
		if dev.Kind() == tundev.TAP {
			mtu = cmp.Or(desired.TapMTU(c), route.DefaultPathMTU)
		}
		o.Devices = append(o.Devices, acquire.ForTunnel(dev, mtu))
	}
	t, err := tunnel.New(o)
	if err != nil {
		return errors.Join(err, acquire.CloseSockets(sockets))
	}
	d.tunnel = t
	d.undo.push(t.Close)
	t.SetPathMTU(d.path.Least)
	t.SetInterfaceMTUs(d.path.MTU)
	t.SetDSCP(c.Tunnel.DSCP)
	if c.Tun != nil && c.Tun.SystemRouting {
		t.SetVia(nil) // until they are read
	}
	if err := t.Configure(desired.Peers(c, d.names.Endpoints)); err != nil {
		return err
	}
	d.continueSessions()
	return nil
}

// rebind moves the tunnel to new sockets. A port that is taken may be our own, which we have just
// left: it is free half a second later. Callers hold changing.
func (d *Daemon) rebind(c *config.Config, port uint16, mark uint32) error {
	var sockets []*udp.Socket
	err := acquire.Patiently(d.life, unix.EADDRINUSE, func() (err error) {
		sockets, err = acquire.Sockets(c, port, mark)
		return err
	})
	if err != nil {
		return err
	}
	if err := d.tunnel.Rebind(acquire.Conns(sockets)); err != nil {
		return errors.Join(err, acquire.CloseSockets(sockets))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.port, d.sockets = sockets[0].Port(), sockets
	return nil
}

// configureNetwork sets up addresses, routes and the rest. Here, as after a reload, an address, a
// route or a whole address family that the kernel refuses is a warning in status, and is tried
// again, because the rest of the instance's traffic does not depend on it. Only a missing
// privilege, which cannot resolve itself, ends the start.
func (d *Daemon) configureNetwork(ctx context.Context) error {
	err := d.applyRoutes(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, unix.EPERM): // the kernel returns EACCES where IPv6 is disabled
		return acquire.NotPermitted(err)
	case err != nil:
		d.log.Warn("the network configuration is incomplete; it will be tried again", zap.Error(err))
	}
	return nil
}

// reachable reports whether there is a route to addr for our datagrams.
func (d *Daemon) reachable(addr netip.Addr) bool {
	_, err := d.routes.PathMTU([]netip.Addr{addr}, d.currentMark())
	return err == nil
}

// currentMark is the present mark of our datagrams.
func (d *Daemon) currentMark() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mark(d.config)
}

// resolved gives the tunnel the endpoints of a peer after its names were resolved, unless the peer
// has been changed meanwhile: what changed it has set the endpoints.
func (d *Daemon) resolved(p config.Peer) {
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.names.Has(p) {
		d.setEndpoints(p)
	}
}

// setEndpoints gives the tunnel the endpoints of a peer. Callers hold changing.
func (d *Daemon) setEndpoints(p config.Peer) {
	err := d.tunnel.Configure(tunnel.Change{Peers: []tunnel.PeerChange{{
		PublicKey: p.PublicKey, UpdateOnly: true, Endpoints: d.names.Endpoints(p),
	}}})
	if err != nil {
		d.log.Warn("cannot set the endpoint of a peer", zap.String("peer", p.Name), zap.Error(err))
	}
	d.lookSoon() // the path to it may have a smaller MTU
}

// prefixChanged gives the tunnel the endpoints of all peers after the network was found to reach
// IPv4 addresses in another way.
func (d *Daemon) prefixChanged() {
	d.log.Info("the NAT64 prefix of this network has changed: endpoints with an IPv4 address have new addresses")
	d.changing.Lock()
	defer d.changing.Unlock()
	for _, p := range d.peers() {
		d.setEndpoints(*p)
	}
}

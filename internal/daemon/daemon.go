// Package daemon assembles an instance of tund out of its parts and runs it: configuration, control socket, devices,
// sockets, tunnel, routes, and the watch on the kernel.
//
// It is the only package that knows all of them, and it holds no logic of theirs: it translates (desired.go,
// backend.go), orders starts and stops (this file), and reacts to a new configuration (reload.go), to names that
// resolve (resolve.go) and to the kernel (watch.go).
//
// Starting takes steps in the order in which they depend on each other; each leaves its own undo, and a step that
// fails undoes those before it. So a start that fails leaves nothing behind.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/control"
	"tund/internal/sdnotify"
	"tund/internal/uapi"
	"tund/route"
	"tund/tunnel"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// Options is how the process was called.
type Options struct {
	Config *config.Config
	// Interface, when not nil, is a device without a configuration file (RunInterface).
	Interface *Interface
	Log       *zap.Logger
	Level     zap.AtomicLevel
	Version   string
	Reload    <-chan struct{} // a value asks for a reload (SIGHUP)
}

// Daemon is one running instance.
type Daemon struct {
	// Constant.
	opts    Options
	log     *zap.Logger
	started time.Time

	// Set once by start.
	control *control.Server
	notify  *sdnotify.Notifier
	routes  *route.Manager
	tunnel  *tunnel.Tunnel
	devices []*tundev.Device
	names   *resolver
	socket  *uapi.Server // WireGuard's; nil: none
	undo    undo

	// mu guards what a reload changes; held for a whole reload.
	mu       sync.Mutex
	config   *config.Config
	loaded   time.Time
	applied  route.Applied
	mtu      int
	port     uint16
	reloadEr string
	override override
	unasked  bool               // the port is the kernel's choice, and the device has not been up: nobody needs to know it yet
	linkUp   bool               // of an Interface
	problems map[string]problem // what the kernel refused or took from us, for status

	background sync.WaitGroup
	trimming   atomic.Bool // memory is about to be given back
}

// problem is one warning shown in status.
type problem struct {
	kind, subject, message string
	since                  time.Time
}

// undo is what to do to take a start back, newest last.
type undo []func() error

func (u *undo) push(f func() error) { *u = append(*u, f) }

// run undoes everything, newest first, going on after errors.
func (u *undo) run() error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		errs = append(errs, (*u)[i]())
	}
	*u = nil
	return errors.Join(errs...)
}

// Run runs an instance until ctx ends, and takes everything down again. The error says why it could not start, or why
// it had to stop; a stop that was asked for is none.
func Run(ctx context.Context, o Options) error {
	d := newDaemon(o)
	return d.run(ctx, []step{
		{"claim instance", d.claim},
		{"sweep leftovers", d.sweep},
		{"open devices", d.openDevices},
		{"open tunnel", d.openTunnel},
		{"configure network", d.configureNetwork},
		{"open WireGuard socket", d.openSocket},
		{"run", d.launch},
	})
}

func newDaemon(o Options) *Daemon {
	return &Daemon{
		opts: o, log: o.Log, started: time.Now(), config: o.Config, loaded: time.Now(),
		problems: make(map[string]problem),
	}
}

// step is one part of a start.
type step struct {
	what string
	do   func(context.Context) error
}

// run is Run with the steps of the start.
func (d *Daemon) run(ctx context.Context, steps []step) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := d.start(ctx, steps)
	switch {
	case err == nil:
		err = d.wait(ctx)
	case errors.Is(err, context.Canceled):
		err = nil // asked to stop before all of it was there
	}
	return errors.Join(err, d.stop(cancel))
}

// start brings the instance up. Its order is that of dependence: the claim on the name comes before anything that two
// instances could fight over, and the world hears of us (READY) last.
func (d *Daemon) start(ctx context.Context, steps []step) error {
	for _, w := range d.config.Warnings {
		d.log.Warn(w.String())
	}
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("start %s: %s: %w", d.config.Instance, s.what, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (d *Daemon) claim(context.Context) error {
	s, err := control.Listen(control.Options{Instance: d.config.Instance, Version: d.opts.Version, Log: d.log})
	if err != nil {
		return err
	}
	d.control = s
	d.undo.push(s.Close)
	d.notify, err = sdnotify.FromEnvironment()
	if err != nil {
		d.log.Warn("cannot tell systemd about us", zap.Error(err))
	}
	return nil
}

// sweep removes what an instance of this name left behind when it was killed.
func (d *Daemon) sweep(context.Context) error {
	if err := route.Cleanup(d.config.Instance); err != nil {
		d.log.Warn("leftovers of an earlier run could not be removed", zap.Error(err))
	}
	return d.openRoutes(context.Background())
}

// openRoutes opens what reads and changes the kernel's network state.
func (d *Daemon) openRoutes(context.Context) error {
	m, err := route.New(d.config.Instance)
	if err != nil {
		return err
	}
	d.routes = m
	d.undo.push(m.Close)
	return nil
}

func (d *Daemon) openDevices(context.Context) error {
	c := d.config
	lanes := laneCount(c)
	if c.Tun != nil {
		if err := d.openDevice(tundev.Options{Name: c.Tun.Device, Kind: tundev.TUN, Offload: c.Tunnel.Offload, Queues: lanes}); err != nil {
			return err
		}
	}
	if c.Tap != nil {
		return d.openDevice(tundev.Options{Name: c.Tap.Device, Kind: tundev.TAP, Offload: c.Tunnel.Offload, Queues: lanes})
	}
	return nil
}

func (d *Daemon) openDevice(o tundev.Options) error {
	dev, err := tundev.Open(o)
	if err != nil {
		return err
	}
	d.devices = append(d.devices, dev)
	d.undo.push(dev.Close)
	if why := dev.Fallback(); why != "" && o.Offload {
		d.log.Warn("device works without offload, and slower", zap.String("iface", o.Name), zap.String("reason", why))
	}
	return nil
}

func (d *Daemon) openTunnel(context.Context) error {
	mark := d.mark(d.config)
	conns, err := openConns(d.config.Tunnel.ListenPort, mark, laneCount(d.config))
	if err != nil {
		return err
	}
	d.port = conns[0].Port()
	d.mtu = tunMTU(d.config, literalEndpoints(d.config), mark)
	o := tunnel.Options{
		PrivateKey: d.config.Tunnel.PrivateKey, Conns: conns, Log: d.log,
		VerifyInnerChecksums: d.config.Tunnel.VerifyInnerChecksum, Ethernet: ethernetOptions(d.config.Tap),
	}
	for _, dev := range d.devices {
		o.Devices = append(o.Devices, tunnel.Device{
			Name: dev.Name(), Kind: dev.Kind(), Features: dev.Features(), Queues: dev.Queues(), MTU: d.deviceMTU(dev),
			Up: func() bool {
				up, known := dev.Up()
				return up && known
			},
		})
	}
	t, err := tunnel.New(o)
	if err != nil {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	d.tunnel = t
	d.undo.push(t.Close)
	d.names = newResolver(d.config.Peers)
	return t.Configure(peersChange(d.config, d.names.endpoints))
}

// deviceMTU is the MTU that the tunnel starts with; the watch on the kernel keeps it true.
func (d *Daemon) deviceMTU(dev *tundev.Device) int {
	if dev.Kind() == tundev.TUN {
		return d.mtu
	}
	if d.config.Tap.MTU != 0 {
		return d.config.Tap.MTU
	}
	if d.config.Tap.Bridge != "" {
		if bridge, err := net.InterfaceByName(d.config.Tap.Bridge); err == nil {
			return bridge.MTU // a bridge takes the smallest MTU of its ports: ours is not to be it
		}
	}
	return route.DefaultPathMTU
}

// openConns opens one socket per lane, all on one port.
func openConns(port uint16, mark uint32, lanes int) ([]udp.Conn, error) {
	var conns []udp.Conn
	for range lanes {
		s, err := udp.Open(udp.Options{Port: port, FwMark: mark, ReusePort: lanes > 1})
		if err != nil {
			for _, c := range conns {
				err = errors.Join(err, c.Close())
			}
			return nil, err
		}
		port = s.Port()
		conns = append(conns, s)
	}
	return conns, nil
}

// configureNetwork makes addresses, routes and the rest. What the kernel refuses is fatal at the start, when somebody
// is looking; later it is a warning in status.
func (d *Daemon) configureNetwork(ctx context.Context) error {
	applied, err := d.routes.Apply(ctx, d.desired(d.config, d.mtu))
	d.applied = applied
	for _, w := range applied.Warnings {
		d.log.Warn(w)
	}
	return err
}

// launch starts packets, control and the watchers, and says that we are ready.
func (d *Daemon) launch(ctx context.Context) error {
	if d.opts.Interface != nil {
		d.tunnel.SetUp(false) // followLink knows better in a moment
	}
	d.tunnel.Start()
	if d.control != nil {
		d.background.Go(func() {
			if err := d.control.Serve(d); err != nil {
				d.log.Error("control socket failed; the tunnel goes on without it", zap.Error(err))
			}
		})
	}
	d.serveSocket(ctx)
	d.background.Go(func() { d.followLink(ctx) })
	d.background.Go(func() { d.watch(ctx) })
	d.background.Go(func() { d.names.run(ctx, d) })
	d.background.Go(func() { d.beat(ctx) })
	debug.FreeOSMemory() // what reading 10,000 peers took is not to count as ours for good
	d.log.Info("ready", zap.String("instance", d.config.Instance), zap.Uint16("port", d.port),
		zap.Stringer("key", d.config.Tunnel.PrivateKey.Public()), zap.Int("peers", len(d.config.Peers)))
	if d.opts.Interface != nil {
		d.opts.Interface.Ready()
	}
	return d.notify.Ready(fmt.Sprintf("%d peers, port %d", len(d.config.Peers), d.port))
}

// wait blocks until something ends the instance.
func (d *Daemon) wait(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- d.tunnel.Wait() }() // ends with the tunnel, which stop closes
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case <-d.removed():
			return errRemoved
		case <-d.opts.Reload:
			if err := d.Reload(); err != nil {
				d.log.Error("reload refused; the running configuration stays", zap.Error(err))
			}
		}
	}
}

// stop takes everything down, in the reverse order of start.
func (d *Daemon) stop(cancel context.CancelFunc) error {
	if err := d.notify.Stopping(); err != nil {
		d.log.Debug("cannot tell systemd", zap.Error(err))
	}
	cancel()
	err := d.undo.run()
	d.background.Wait()
	if err == nil {
		d.log.Info("stopped", zap.String("instance", d.config.Instance))
	}
	return err
}

// beat feeds systemd's watchdog while the tunnel lives.
func (d *Daemon) beat(ctx context.Context) {
	every := sdnotify.WatchdogInterval()
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.tunnel.Status() // takes every lock that a stuck tunnel would hold
			if err := d.notify.Watchdog(); err != nil {
				d.log.Debug("cannot tell systemd", zap.Error(err))
			}
		}
	}
}

// setEndpoints tells the tunnel where a peer is found now that its names resolved.
func (d *Daemon) setEndpoints(p config.Peer, found []netip.AddrPort) {
	err := d.tunnel.Configure(tunnel.Change{Peers: []tunnel.PeerChange{{
		PublicKey: p.PublicKey, UpdateOnly: true, Endpoints: found,
	}}})
	if err != nil {
		d.log.Warn("endpoint not set", zap.String("peer", p.Name), zap.Error(err))
	}
}

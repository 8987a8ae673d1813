package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"tund/internal/acquire"
	"tund/internal/netwatch"
	"tund/internal/news"
	"tund/internal/statusview"
	"tund/route"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// watch follows the kernel's network configuration until ctx ends. The route manager restores what
// others remove, which is logged here; when the network below the tunnel changes, the paths to the
// peers are looked up again.
func (d *Daemon) watch(ctx context.Context) {
	err := d.routes.Watch(ctx, d.kernelChanged)
	if err != nil && ctx.Err() == nil {
		d.log.Error("cannot watch the kernel: changes to routes and addresses will go unnoticed", zap.Error(err))
		d.problems.Note(statusview.KindNetwork, "watch", "changes to routes and addresses go unnoticed: "+oneLine(err))
	}
}

func (d *Daemon) kernelChanged(e route.Event) {
	if len(e.Gone) > 0 && d.mode.managed {
		select {
		case d.gone <- acquire.Gone(d.config, d.devices, e.Gone[0], somebody(e.By)):
		default:
		}
		return
	}
	if len(e.Lost) > 0 {
		d.log.Warn("network configuration of this instance was removed from the kernel; it has been restored",
			zap.String("by", somebody(e.By)), zap.Strings("lost", e.Lost))
	}
	switch {
	case e.Err != nil && d.mode.managed:
		d.log.Warn("cannot restore network configuration that was removed from the kernel", zap.Error(e.Err))
		d.problems.Note(statusview.KindNetwork, "", "cannot restore what "+somebody(e.By)+" removed from the kernel: "+oneLine(e.Err))
	case len(e.Lost) > 0:
		d.problems.Solved(statusview.KindNetwork, "")
	}
	if e.Changed {
		d.reapply.Store(true)
		d.lookSoon()
	}
	if e.Through {
		d.lookSoon()
	}
	if e.Underlay {
		d.checkPaths(true)
		d.names.Retry()
		d.lookSoon()
	}
}

// checkPaths sends something to each peer whose path has changed, so that the peer learns our new
// address. It does so at once or, if the network keeps changing and there are many peers, at the
// next check of follow.
func (d *Daemon) checkPaths(changed bool) {
	d.pathsMu.Lock()
	defer d.pathsMu.Unlock()
	d.pathsDue = d.pathsDue || changed
	start := time.Now()
	if !d.pathsDue || start.Before(d.pathsNext) {
		return
	}
	d.pathsDue = false
	d.tunnel.PathsChanged(d.stale)
	d.pathsNext = start.Add(lookShare * time.Since(start))
}

// stale reports whether our answers to a peer would no longer leave from the address and through
// the link to which the peer sends (kernel socket.c, send4).
func (d *Daemon) stale(ep udp.Endpoint) bool {
	d.mu.Lock()
	mark := d.mark(d.config)
	d.mu.Unlock()
	link, err := d.routes.Departure(ep.Addr.Addr(), ep.Source, mark)
	return err != nil || link != int(ep.Ifindex)
}

func somebody(by string) string {
	if by == "" {
		return "another program"
	}
	return by
}

// whoWait is how long to wait for the kernel's notification that a device was deleted, once reading
// from the device has failed.
const whoWait = time.Second

// whoEnded replaces the error with which the tunnel ended by one that names the process that
// deleted the device, if the kernel reports it.
func (d *Daemon) whoEnded(ctx context.Context, err error) error {
	if !errors.Is(err, tundev.ErrGone) || !d.mode.managed {
		return err
	}
	timer := time.NewTimer(whoWait)
	defer timer.Stop()
	select {
	case told := <-d.gone:
		return told
	case <-timer.C:
	case <-ctx.Done():
	}
	return err
}

// followLink informs the tunnel of the state of a device until ctx ends, even after the device has
// moved to another network namespace: whether it is up, and the MTUs up to which packets may be
// padded.
func (d *Daemon) followLink(ctx context.Context, dev *tundev.Device) {
	name := d.nameOf(dev)
	err := netwatch.Follow(ctx, dev, func(s netwatch.LinkState) {
		d.log.Debug("link changed", zap.String("iface", name), zap.Bool("up", s.Up), zap.Int("mtu", s.MTU), zap.Ints("route_mtus", s.RouteMTUs))
		d.linkChanged(name, s)
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("cannot watch the device: changes to its MTU and state will go unnoticed", zap.String("iface", name), zap.Error(err))
		d.tunnel.SetUp(true) // a needless handshake is better than a silent tunnel
	}
}

// linkChanged informs the tunnel of a device's state. The tunnel is silent while all its devices
// are down.
func (d *Daemon) linkChanged(name string, s netwatch.LinkState) {
	d.mu.Lock()
	was, known := d.links[name]
	moved := !slices.Equal(was.Addrs, s.Addrs)
	d.links[name] = s
	up := false
	for _, l := range d.links {
		up = up || l.Up
	}
	all := len(d.links) == len(d.devices)
	d.mu.Unlock()
	if !known || was.Up != s.Up {
		news.Port(d.events, name, s.Up)
	}
	if moved {
		d.lookAddresses()
	}
	if s.MTU > 0 {
		d.tunnel.SetMTU(name, s.MTU)
	}
	d.tunnel.SetRouteMTUs(name, s.RouteMTUs)
	if up || all {
		d.tunnel.SetUp(up)
	}
}

// nameOf is the name by which the tunnel knows a device, whatever the device is called now.
func (d *Daemon) nameOf(dev *tundev.Device) string {
	if dev.Kind() == tundev.TAP {
		return d.config.Tap.Device
	}
	return d.config.Tun.Device
}

package daemon

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"tund/internal/desired"
	"tund/internal/uapi"
)

// wireguard is the instance from the point of view of WireGuard's tools (uapi.Backend).
type wireguard struct{ d *Daemon }

// openSocket opens WireGuard's configuration socket for the TUN device. An instance with a file
// continues without it: its configuration does not depend on the socket, and a hardened service may
// not be allowed to write there.
func (d *Daemon) openSocket(context.Context) (err error) {
	if d.config.Tun == nil {
		return nil
	}
	d.socket, err = uapi.Listen(uapi.Options{Device: d.config.Tun.Device, Log: d.log})
	if err != nil {
		d.log.Warn("no WireGuard socket: wg(8) cannot show this device", zap.Error(err))
		return nil
	}
	d.undo.push(d.socket.Close)
	return nil
}

// serveSocket answers WireGuard's tools until the socket is closed.
func (d *Daemon) serveSocket(ctx context.Context) {
	if d.socket == nil {
		return
	}
	d.background.Go(func() { d.socket.Serve(wireguard{d}) })
	if d.removed != nil {
		return // wait checks whether it was removed
	}
	d.background.Go(func() {
		select {
		case <-ctx.Done():
		case <-d.socket.Removed():
			d.log.Warn("the WireGuard socket was removed: wg(8) cannot show this device until a restart",
				zap.String("path", d.socket.Path()))
		}
	})
}

// Get describes the device (uapi.Backend).
func (w wireguard) Get() uapi.Device {
	s := w.d.tunnel.Status()
	prefixes := 0
	for i := range s.Peers {
		prefixes += len(s.Peers[i].AllowedIPs)
	}
	w.d.heap.Worked(len(s.Peers) + prefixes)
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	return uapi.Device{PrivateKey: s.PrivateKey, ListenPort: w.d.port, FwMark: w.d.mark(w.d.config), Peers: s.Peers}
}

// Set applies a request, or refuses it as a whole (uapi.Backend). Steps that can be refused come
// first; the last ones cannot be.
func (w wireguard) Set(r uapi.Request) error {
	d := w.d
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping {
		return uapi.ErrInvalid(errStopping.Message)
	}
	if err := d.tunnel.Fits(r.Change); err != nil {
		return uapi.ErrInvalid(err.Error())
	}
	mark, was := d.mark(d.config), d.override.mark
	if r.FwMark != nil {
		mark = *r.FwMark
		d.setOverride(func(o *override) { o.mark = r.FwMark })
	}
	if err := d.moveSocket(r, mark); err != nil {
		d.setOverride(func(o *override) { o.mark = was })
		return uapi.ErrInUse(err.Error())
	}
	desired.Complete(d.config, r.Peers)
	if err := d.tunnel.Configure(r.Change); err != nil {
		return uapi.ErrInvalid(err.Error())
	}
	d.noteByHand(r)
	d.followHosts()
	d.heap.Worked(len(r.Peers))
	d.setOverride(func(o *override) {
		if o.since.IsZero() {
			o.since = time.Now()
		}
	})
	d.lookSoon()
	return nil
}

// moveSocket binds another port, or changes the mark of the sockets in use. Callers hold changing.
func (d *Daemon) moveSocket(r uapi.Request, mark uint32) error {
	if r.ListenPort != nil && (*r.ListenPort == 0 || *r.ListenPort != d.port) {
		return d.rebind(d.config, *r.ListenPort, mark)
	}
	if r.FwMark != nil {
		if err := d.tunnel.SetMark(mark); err != nil {
			return fmt.Errorf("set fwmark %#x: %w", mark, err)
		}
	}
	return nil
}

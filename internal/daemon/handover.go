package daemon

import (
	"context"

	"go.uber.org/zap"

	"tund/internal/acquire"
	"tund/tunnel/tundev"
	"tund/tunnel/udp"
)

// takeOver takes what the process before has left. Without it, the start is as any other.
func (d *Daemon) takeOver(context.Context) (err error) {
	d.undo.push(func() error { d.inherited.Close(); return nil })
	if d.inherited, err = acquire.Take(d.notify, acquire.Place(d.config)); err != nil {
		d.log.Warn("this start does not continue where the last process ended", zap.Error(err))
	}
	return nil
}

// inheritDevice returns the device of the last process, or nil if there is none that can be used.
func (d *Daemon) inheritDevice(o tundev.Options) *tundev.Device {
	dev, err := d.inherited.Device(o)
	if err != nil {
		d.log.Warn("the device is recreated", zap.Error(err))
		return nil
	}
	return dev
}

// inheritSockets returns the sockets of the last process, or nil if they cannot be used.
func (d *Daemon) inheritSockets(o udp.Options, lanes int) []*udp.Socket {
	sockets, err := d.inherited.Sockets(o, lanes)
	if err != nil {
		d.log.Warn("the UDP sockets are reopened", zap.Error(err))
		return nil
	}
	return sockets
}

// continueSessions gives the peers the sessions of the last process.
func (d *Daemon) continueSessions() {
	sessions := d.inherited.Sessions()
	if sessions == nil {
		return
	}
	defer clear(sessions)
	d.routes.Inherit()
	n, err := d.tunnel.Continue(sessions)
	if err != nil {
		d.log.Warn("cannot continue the sessions: the peers need new handshakes", zap.Error(err))
		return
	}
	d.log.Info("continuing where the last process ended", zap.Int("sessions", n))
}

// handOver leaves devices, sockets and sessions to the next process, and reports whether it could:
// the stop is the first half of a restart, and there is a service manager to keep them. If it could
// not, the instance is taken down as at any other stop.
func (d *Daemon) handOver() bool {
	if d.opts.Restart == nil || !d.opts.Restart() || d.notify == nil {
		return false
	}
	left := acquire.Left{Place: acquire.Place(d.config), Devices: d.devices, Sockets: d.sockets, Suspend: d.tunnel.Suspend}
	if err := left.Keep(d.notify); err != nil {
		d.log.Warn("the next start cannot continue where this process ends", zap.Error(err))
		return false
	}
	return true
}

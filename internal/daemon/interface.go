package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/acquire"
	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/rundir"
	"tund/internal/sizes"
	"tund/internal/uapi"
	"tund/route"
	"tund/tunnel/tundev"
)

// interfaceMTU is the MTU of a new device without a file: what an Ethernet path leaves. Whoever
// configures the device may set another one, and tund follows.
const interfaceMTU = route.DefaultPathMTU - sizes.Overhead

// Interface is a device without a configuration file, as used by wg-quick(8): a TUN device and
// WireGuard's socket. wg(8) configures it, and others set its addresses, routes and link state.
type Interface struct {
	Name string // of the device; with Tun, the name of the device handed over
	// Tun is the descriptor of an open device to use (WG_TUN_FD); -1 creates one.
	Tun int
	// Socket is a listening socket to use (WG_UAPI_FD); nil creates one.
	Socket *os.File
	// Ready is called once the device exists and the socket answers.
	Ready func()
}

// RunInterface runs o.Interface until ctx ends, or until the device or the socket file is deleted,
// which is how wg-quick ends it and no error. Then it takes everything down. o.Config is not used.
func RunInterface(ctx context.Context, o Options) error {
	o.Config = &config.Config{
		Instance: o.Interface.Name,
		Tunnel:   config.Tunnel{Offload: true},
		Tun:      &config.Tun{Device: o.Interface.Name, MTU: interfaceMTU},
	}
	if o.Interface.Tun >= 0 {
		o.Config.Tunnel.Lanes = 1 // one descriptor is one queue
	}
	d := newDaemon(o)
	d.mode = d.interfaceMode(o.Interface)
	err := d.run(ctx, d.mode.steps)
	if errors.Is(err, tundev.ErrGone) || errors.Is(err, errRemoved) {
		d.log.Info("ended", zap.Error(err))
		return nil
	}
	return err
}

// openInterface opens the device, or takes over the one handed to us as fd if that is not negative.
func (d *Daemon) openInterface(ctx context.Context, fd int) error {
	c := d.config
	if fd >= 0 {
		dev, err := tundev.FromFD(fd)
		if err != nil {
			return err
		}
		d.devices = append(d.devices, dev)
		d.undo.push(dev.Close)
		if dev.Kind() != tundev.TUN {
			return fmt.Errorf("device %s is a TAP device: want TUN", dev.Name())
		}
		c.Instance, c.Tun.Device = dev.Name(), dev.Name()
		return nil
	}
	err := d.openDevice(ctx, tundev.Options{Name: c.Tun.Device, Kind: tundev.TUN, Offload: true, Queues: desired.Lanes(c)})
	if err != nil {
		return err
	}
	name := d.devices[0].Name() // "wg%d" has become a name
	c.Instance, c.Tun.Device = name, name
	return d.devices[0].SetMTU(interfaceMTU)
}

// claimIfPossible opens the control socket for tunctl. A WireGuard device does not depend on it.
func (d *Daemon) claimIfPossible(ctx context.Context) error {
	err := acquire.Patiently(ctx, rundir.ErrRunning, func() error { return d.claim(ctx) })
	if err != nil {
		d.log.Warn("tunctl cannot see this device", zap.Error(err))
	}
	return nil
}

// observe prepares the watch on the network around the device. It changes nothing.
func (d *Daemon) observe(ctx context.Context) error {
	if err := d.openRoutes(ctx); err != nil {
		return err
	}
	if _, err := d.routes.Apply(ctx, d.mode.wanted(d.config, nil, 0)); err != nil {
		d.log.Debug("the device is in another namespace", zap.Error(err))
	}
	return nil
}

// openInterfaceSocket opens WireGuard's socket, or takes over file. The interface depends on it,
// and ends when it is removed.
func (d *Daemon) openInterfaceSocket(ctx context.Context, file *os.File) error {
	o := uapi.Options{Device: d.config.Tun.Device, File: file, Log: d.log}
	err := acquire.Patiently(ctx, uapi.ErrInUseSocket, func() (err error) {
		d.socket, err = uapi.Listen(o)
		return err
	})
	if err != nil {
		return err
	}
	d.removed = d.socket.Removed()
	d.undo.push(d.socket.Close)
	return nil
}

// assumeDown keeps the tunnel silent until followLink has read whether the device is up: setting a
// new device up is the last step of its configuration.
func (d *Daemon) assumeDown(context.Context) error {
	d.tunnel.SetUp(false)
	return nil
}

// errRemoved ends an interface whose socket was removed. That is no failure.
var errRemoved = errors.New("the WireGuard socket was removed")

// errNoFile refuses a reload if there is no file to read.
var errNoFile = &control.Error{Code: control.CodeUnsupported, Message: "no configuration file: this device is configured with wg(8)"}

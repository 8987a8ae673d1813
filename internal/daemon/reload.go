package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/control"
)

// Reload reads the configuration file again and applies what changed (control.Backend). Peers that did not change
// keep their sessions, counters and endpoints. A file with a fault, or a change that only a restart can make, is
// refused as a whole.
func (d *Daemon) Reload() error {
	if err := d.notify.Reloading(); err != nil {
		d.log.Debug("cannot tell systemd", zap.Error(err))
	}
	err := d.reload()
	if err := d.notify.Ready(fmt.Sprintf("%d peers, port %d", len(d.current().Peers), d.port)); err != nil {
		d.log.Debug("cannot tell systemd", zap.Error(err))
	}
	return err
}

func (d *Daemon) current() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

func (d *Daemon) reload() error {
	if d.opts.Interface != nil {
		return errNoFile
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next, err := config.Load(d.config.Path)
	if err == nil {
		err = needsRestart(d.config, next)
	}
	if err != nil {
		d.reloadEr = err.Error()
		return &control.Error{Code: control.CodeConfig, Message: err.Error()}
	}
	was := d.override
	d.override = override{} // the file counts again
	if err := d.rebind(next); err != nil {
		d.override = was
		d.reloadEr = err.Error()
		return &control.Error{Code: control.CodeConfig, Message: err.Error()}
	}
	d.names.set(next.Peers)
	if err := d.tunnel.Configure(peersChange(next, d.names.endpoints)); err != nil {
		d.reloadEr = err.Error()
		return err
	}
	d.config, d.loaded, d.reloadEr = next, time.Now(), ""
	for _, w := range next.Warnings {
		d.log.Warn(w.String())
	}
	err = d.applyRoutes(context.Background())
	d.log.Info("reloaded", zap.Int("peers", len(next.Peers)), zap.Error(err))
	return err
}

// applyRoutes makes the kernel's state that of the configuration in force. Callers hold mu.
func (d *Daemon) applyRoutes(ctx context.Context) error {
	mark := d.mark(d.config)
	if err := d.tunnel.SetMark(mark); err != nil {
		return fmt.Errorf("set fwmark %#x: %w", mark, err)
	}
	d.mtu = tunMTU(d.config, literalEndpoints(d.config), mark)
	applied, err := d.routes.Apply(ctx, d.desired(d.config, d.mtu))
	d.applied = applied
	if d.config.Tun != nil {
		d.tunnel.SetMTU(d.config.Tun.Device, d.mtu)
	}
	if err != nil {
		d.note("network", "", err.Error())
	} else {
		delete(d.problems, "network/")
	}
	return err
}

// rebind moves to another UDP port when the configuration asks for one. Callers hold mu.
func (d *Daemon) rebind(next *config.Config) error {
	want := next.Tunnel.ListenPort
	if want == d.port || want == 0 && d.config.Tunnel.ListenPort == 0 {
		return nil
	}
	conns, err := openConns(next.Tunnel.ListenPort, d.mark(next), laneCount(next))
	if err != nil {
		return err
	}
	d.port = conns[0].Port()
	return d.tunnel.Rebind(conns)
}

// needsRestart refuses what a running instance cannot change. It names everything at once.
func needsRestart(old, next *config.Config) error {
	var errs []error
	refuse := func(key string, differs bool) {
		if differs {
			errs = append(errs, fmt.Errorf("%s: %s changed: restart the instance to apply it", next.Path, key))
		}
	}
	refuse("[tun]", (old.Tun == nil) != (next.Tun == nil))
	refuse("[tap]", (old.Tap == nil) != (next.Tap == nil))
	if old.Tun != nil && next.Tun != nil {
		refuse("tun.device", old.Tun.Device != next.Tun.Device)
	}
	if old.Tap != nil && next.Tap != nil {
		refuse("tap.device", old.Tap.Device != next.Tap.Device)
	}
	refuse("tunnel.offload", old.Tunnel.Offload != next.Tunnel.Offload)
	refuse("tunnel.inner_checksum", old.Tunnel.VerifyInnerChecksum != next.Tunnel.VerifyInnerChecksum)
	refuse("tunnel.lanes", laneCount(old) != laneCount(next))
	return errors.Join(errs...)
}

// note remembers a problem for status. Callers hold mu.
func (d *Daemon) note(kind, subject, message string) {
	key := kind + "/" + subject
	if old, ok := d.problems[key]; ok && old.message == message {
		return
	}
	d.problems[key] = problem{kind, subject, message, time.Now()}
}

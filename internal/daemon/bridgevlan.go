package daemon

import (
	"context"

	"go.uber.org/zap"

	"tund/internal/desired"
	"tund/internal/statusview"
	"tund/route/bridgevlan"
)

// openBridgeVLANs opens the access to the VLANs of bridge ports.
func (d *Daemon) openBridgeVLANs(context.Context) error {
	if d.config.Tap == nil {
		return nil
	}
	port, err := bridgevlan.Open()
	if err != nil {
		return err
	}
	d.bridgePort = port
	d.undo.push(port.Close)
	return nil
}

// applyBridgeVLANs gives the port of the TAP its VLANs, if the bridge is VLAN-aware. Callers hold
// changing.
func (d *Daemon) applyBridgeVLANs() {
	if d.bridgePort == nil || d.config.Tap == nil || d.config.Tap.Bridge == "" {
		return
	}
	const subject = "bridge vlan"
	changed, err := d.bridgePort.Apply(desired.PortVLANs(d.config))
	if len(changed) > 0 {
		d.log.Info("the VLANs of our bridge port were set", zap.Strings("vlans", changed))
	}
	if err == nil {
		d.problems.Solved(statusview.KindNetwork, subject)
		return
	}
	if !d.problems.Has(statusview.KindNetwork, subject) {
		d.log.Warn("the VLANs of our bridge port cannot be set", zap.Error(err))
	}
	d.problems.Note(statusview.KindNetwork, subject, oneLine(err))
}

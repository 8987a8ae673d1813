package daemon

import (
	"context"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/statusview"
	"tund/route/bridgevlan"
)

// portVLANs is what the port of the TAP is to have at a VLAN-aware bridge: what the configuration
// says, or what the peers need.
func portVLANs(c *config.Config) bridgevlan.Want {
	w := bridgevlan.Want{Device: c.Tap.Device, VLANs: c.Tap.BridgeVLANs, PVID: bridgevlan.Keep}
	if c.Tap.BridgePVID >= 0 {
		w.PVID = c.Tap.BridgePVID
	}
	if w.VLANs != nil {
		return w
	}
	for n := range c.Peers {
		if p := &c.Peers[n]; p.Ethernet {
			for _, v := range append([]uint16{p.PVID}, p.VLANs...) {
				if v != 0 && int(v) != w.PVID {
					w.VLANs = append(w.VLANs, v)
				}
			}
		}
	}
	return w
}

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
	changed, err := d.bridgePort.Apply(portVLANs(d.config))
	if len(changed) > 0 {
		d.log.Info("the VLANs of our bridge port were set", zap.Strings("bridge vlan", changed))
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

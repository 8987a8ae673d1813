package daemon

import (
	"context"

	"go.uber.org/zap"

	"tund/internal/bridgelink"
	"tund/internal/statusview"
	"tund/tunnel/ethernet"
	"tund/tunnel/l2"
)

// followBridge connects the switch with the Linux bridge of the TAP until ctx ends.
func (d *Daemon) followBridge(ctx context.Context, bridge *ethernet.Bridge) {
	err := bridgelink.Follow(ctx, d.config.Tap.Device, bridge)
	if err != nil && ctx.Err() == nil {
		d.log.Error("cannot watch the bridge: hosts of the LAN that do not talk through the tunnel are not known", zap.Error(err))
		d.problems.Note(statusview.KindNetwork, "bridge", "hosts of the LAN that do not talk through the tunnel are not known: "+oneLine(err))
	}
}

// places returns a function that tells where the bridge of the TAP has an address; nil if it cannot
// be asked.
func (d *Daemon) places() func(l2.MAC, uint16) (statusview.Place, bool) {
	d.mu.Lock()
	tap := d.config.Tap
	d.mu.Unlock()
	if tap == nil {
		return nil
	}
	known, err := bridgelink.Places(tap.Device)
	if err != nil {
		d.log.Debug("cannot read the bridge", zap.Error(err))
		return nil
	}
	return known
}

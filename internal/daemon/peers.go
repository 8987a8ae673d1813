package daemon

import (
	"time"

	"go.uber.org/zap"

	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/news"
	"tund/route/refused"
)

// changePeer changes one peer and its routes. A peer that the file does not have stays when the
// file is read again, until the file has it; any other change lasts until then. Other peers keep
// what WireGuard's tools have set.
func (d *Daemon) changePeer(change control.PeerChange) error {
	if d.mode.fixed != nil {
		return d.mode.fixed
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping || d.life.Err() != nil {
		return errStopping
	}
	next, key, err := desired.WithChange(d.config, change)
	if err != nil {
		return err
	}
	agent := d.rejudge(next)
	if err := d.tunnel.Fits(desired.OnePeer(next, key, agent, d.names.Endpoints)); err != nil {
		d.undoAgent(agent)
		return &control.Error{Code: control.CodeConfig, Message: err.Error()}
	}
	d.names.SetPeers(next.Peers)
	d.names.Change(d.agent.peers.InForce(), nil)
	// First with the endpoints that need no name look-up.
	if err := d.tunnel.Configure(desired.OnePeer(next, key, agent, d.names.Endpoints)); err != nil {
		return err // Fits has checked that before
	}
	d.setOverride(func(o *override) {
		if o.file == nil {
			o.file = d.config
		}
		if o.since.IsZero() {
			o.since = time.Now()
		}
		d.config = next
	})
	d.followHosts()
	err = d.applyRoutes(d.life)
	d.lookSoon()
	news.Config(d.events, "changed", "a peer was changed until the next reload ("+change.Op+" "+key.Short()+")", "")
	if err != nil {
		return refused.InPart(err)
	}
	d.log.Info("peer changed at run time", zap.String("op", change.Op), zap.String("key", key.Short()))
	return nil
}

package daemon

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/sources"
	"tund/tunnel"
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
	next, key, err := changedPeers(d.config, change)
	if err != nil {
		return err
	}
	agent := d.rejudge(next)
	if err := d.tunnel.Fits(d.peerPart(next, key, agent)); err != nil {
		d.mu.Lock()
		d.agent.peers.Undo(agent)
		d.mu.Unlock()
		return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	}
	d.names.SetPeers(next.Peers)
	d.names.Change(d.agent.peers.InForce(), nil)
	// First with the endpoints that need no name look-up.
	if err := d.tunnel.Configure(d.peerPart(next, key, agent)); err != nil {
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
	err = d.applyRoutes(d.life)
	d.lookSoon()
	d.configEvent("changed", "a peer was changed until the next reload ("+change.Op+" "+key.Short()+")", "")
	if err != nil {
		return partly(err)
	}
	d.log.Info("peer changed at run time", zap.String("op", change.Op), zap.String("key", key.Short()))
	return nil
}

// peerPart is the change that gives one peer of the tunnel its configuration in c, with what
// follows for the agent's peers, and leaves the others unchanged.
func (d *Daemon) peerPart(c *config.Config, key keys.PublicKey, agent sources.Diff) tunnel.Change {
	var part tunnel.Change
	done := make(map[keys.PublicKey]bool)
	shared := sharedPrefixes(c) // the whole configuration tells
	for i := range c.Peers {
		if p := &c.Peers[i]; p.PublicKey == key {
			done[key] = true
			part.Peers = append(part.Peers, peerChange(p, shared, d.names.Endpoints))
		}
	}
	for _, s := range agent.Steps {
		if s.Is != nil {
			done[s.Key] = true
			part.Peers = append(part.Peers, peerChange(s.Is, nil, d.names.Endpoints))
		}
	}
	gone := []keys.PublicKey{key}
	for _, s := range agent.Steps {
		gone = append(gone, s.Key)
	}
	for _, k := range gone {
		if !done[k] {
			done[k] = true
			part.Peers = append(part.Peers, tunnel.PeerChange{PublicKey: k, Remove: true})
		}
	}
	return part
}

// changedPeers returns the configuration with the change, and the public key of the peer concerned.
func changedPeers(c *config.Config, change control.PeerChange) (*config.Config, keys.PublicKey, error) {
	refuse := func(err error) (*config.Config, keys.PublicKey, error) {
		return nil, keys.PublicKey{}, &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	}
	if change.Op == "add" {
		next, err := c.WithPeer(keys.PublicKey{}, change.Values)
		if err != nil {
			return refuse(err)
		}
		return next, next.Peers[len(next.Peers)-1].PublicKey, nil
	}
	for i := range c.Peers {
		p := &c.Peers[i]
		if p.Name != change.Peer && p.PublicKey.String() != change.Peer {
			continue
		}
		if change.Op == "remove" {
			return c.WithoutPeer(p.PublicKey), p.PublicKey, nil
		}
		if _, other := change.Values["public_key"]; other {
			return refuse(fmt.Errorf("peer %q: public_key: identifies the peer and cannot be changed: remove the peer and add another", p.Name))
		}
		next, err := c.WithPeer(p.PublicKey, change.Values)
		if err != nil {
			return refuse(err)
		}
		return next, p.PublicKey, nil
	}
	return nil, keys.PublicKey{}, &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("no peer %q", change.Peer)}
}

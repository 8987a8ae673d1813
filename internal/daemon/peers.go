package daemon

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/tunnel"
)

// changePeer changes one peer and its routes until the next reload. Other peers keep what
// WireGuard's tools have set.
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
	if err := d.tunnel.Fits(d.peerPart(next, key)); err != nil {
		return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	}
	d.names.SetPeers(next.Peers)
	// First with the endpoints that need no name look-up.
	if err := d.tunnel.Configure(d.peerPart(next, key)); err != nil {
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
	d.log.Info("peer changed until the next reload", zap.String("op", change.Op), zap.String("key", key.Short()))
	return nil
}

// peerPart is the change that gives one peer of the tunnel its configuration in c and leaves the
// others unchanged.
func (d *Daemon) peerPart(c *config.Config, key keys.PublicKey) tunnel.Change {
	// The whole configuration tells which allowed IPs are shared.
	part := peersChange(c, d.names.Endpoints)
	part.PrivateKey, part.ReplacePeers = nil, false
	part.Peers = slices.DeleteFunc(part.Peers, func(p tunnel.PeerChange) bool { return p.PublicKey != key })
	if len(part.Peers) == 0 {
		part.Peers = []tunnel.PeerChange{{PublicKey: key, Remove: true}}
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

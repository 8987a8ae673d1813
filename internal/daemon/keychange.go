package daemon

import (
	"net/netip"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/tunnel"
)

// A peer whose public_key is changed by a reload is another peer to the tunnel, without a session
// and without an address if it has no endpoint. To the operator it is the same one, and it may wait
// for us: until it has noticed that its session is gone, what it sends is lost.

// changedKeys returns the new keys of peers that are up and get another public key by next, with
// the addresses at which they are now.
func (d *Daemon) changedKeys(next *config.Config) map[keys.PublicKey]netip.AddrPort {
	before := make(map[string]keys.PublicKey, len(d.config.Peers)) // by name
	known := make(map[keys.PublicKey]bool, len(d.config.Peers))
	for i := range d.config.Peers {
		p := &d.config.Peers[i]
		before[p.Name], known[p.PublicKey] = p.PublicKey, true
	}
	changed := make(map[keys.PublicKey]netip.AddrPort)
	for i := range next.Peers {
		p := &next.Peers[i]
		old, ok := before[p.Name]
		if ok && !known[p.PublicKey] && d.tunnel.PeerState(old) == tunnel.StateUp {
			if at := d.tunnel.Endpoint(old); at.IsValid() {
				changed[p.PublicKey] = at
			}
		}
	}
	return changed
}

// withEndpoints lets the peers begin where they were under their old keys.
func withEndpoints(change tunnel.Change, at map[keys.PublicKey]netip.AddrPort) tunnel.Change {
	for i := range change.Peers {
		if ep, ok := at[change.Peers[i].PublicKey]; ok {
			change.Peers[i].Endpoint = ep
		}
	}
	return change
}

// logOwnKey says that we have another key: the peers need the new public one.
func (d *Daemon) logOwnKey(old, next *config.Config) {
	if old.Tunnel.PrivateKey.Equal(next.Tunnel.PrivateKey) {
		return
	}
	d.log.Info("our key has changed", zap.Stringer("key", next.Tunnel.PrivateKey.Public()),
		zap.Bool("previous_key_accepted", next.Tunnel.PreviousKey.Equal(old.Tunnel.PrivateKey)))
}

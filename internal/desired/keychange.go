package desired

import (
	"net/netip"

	"tund/config"
	"tund/crypto/keys"
	"tund/tunnel"
)

// A peer whose public_key is changed by a reload is another peer to the tunnel, without a session
// and without an address if it has no endpoint. To the operator it is the same one, and it may wait
// for us: until it has noticed that its session is gone, what it sends is lost.

// ChangedKeys returns the new keys of peers that are up and get another public key by the change
// from old to next, with the addresses at which they are now. at returns the address of a peer that
// is up, and an invalid one of any other.
func ChangedKeys(old, next *config.Config, at func(keys.PublicKey) netip.AddrPort) map[keys.PublicKey]netip.AddrPort {
	before := make(map[string]keys.PublicKey, len(old.Peers)) // by name
	known := make(map[keys.PublicKey]bool, len(old.Peers))
	for i := range old.Peers {
		p := &old.Peers[i]
		before[p.Name], known[p.PublicKey] = p.PublicKey, true
	}
	changed := make(map[keys.PublicKey]netip.AddrPort)
	for i := range next.Peers {
		p := &next.Peers[i]
		if key, ok := before[p.Name]; ok && !known[p.PublicKey] {
			if place := at(key); place.IsValid() {
				changed[p.PublicKey] = place
			}
		}
	}
	return changed
}

// WithEndpoints lets the peers begin where they were under their old keys.
func WithEndpoints(change tunnel.Change, at map[keys.PublicKey]netip.AddrPort) tunnel.Change {
	for i := range change.Peers {
		if ep, ok := at[change.Peers[i].PublicKey]; ok {
			change.Peers[i].Endpoint = ep
		}
	}
	return change
}

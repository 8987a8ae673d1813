package tunnel

import (
	"tund/crypto/keys"
	"tund/tunnel/l2"
)

// Assign changes the hosts that are assigned to peers, and to our own LAN; see l2.Switch.Assign.
func (t *Tunnel) Assign(c l2.Assignment) error { return t.lan.Assign(c) }

// PortOf returns the port of the switch that a peer has; ok is false for an unknown peer, and for
// one that has no port because there is no TAP device. A port belongs to its peer until a change of
// the configuration removes that.
func (t *Tunnel) PortOf(key keys.PublicKey) (id l2.PortID, ok bool) {
	p := t.peers.Get(key)
	if p == nil {
		return 0, false
	}
	id = l2.PortID(p.Port.Load())
	return id, id != l2.LocalPort
}

// PublicKey returns our own public key.
func (t *Tunnel) PublicKey() keys.PublicKey { return t.handshakes.PublicKey() }

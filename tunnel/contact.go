package tunnel

import (
	"net/netip"

	"tund/crypto/keys"
	"tund/tunnel/peer"
	"tund/tunnel/udp"
)

// Contact is a peer that is known as tund and has a session, and where it is.
type Contact struct {
	PublicKey keys.PublicKey
	Endpoint  netip.AddrPort
}

// Contacts returns the peers that another run may find again with Contact. Link-local endpoints are
// left out: the interface that they name by its index may be another one then.
func (t *Tunnel) Contacts() []Contact {
	now := t.env.Clock.Now()
	var list []Contact
	for _, p := range t.peers.All() {
		ep, kp := p.Endpoint(), p.Current()
		if p.Extension.Features() != 0 && ep != nil && ep.Addr.Addr().Zone() == "" && kp != nil && kp.Usable(now) {
			list = append(list, Contact{p.PublicKey(), ep.Addr})
		}
	}
	return list
}

// Contact asks the peers of an earlier run for a session, so that those that do not know of our new
// start need not find out by their silence. The endpoint is used for peers that have none. It does
// nothing for peers that are not configured, not asked for extensions, or have a session already.
// It is called after Start.
func (t *Tunnel) Contact(list []Contact) {
	now := t.env.Clock.Now()
	for _, c := range list {
		p := t.peers.Get(c.PublicKey)
		if p == nil || p.Extension.Mode() == peer.ExtensionsOff || p.Current() != nil {
			continue
		}
		if p.Endpoint() == nil {
			p.SetEndpoint(udp.Endpoint{Addr: c.Endpoint})
		}
		t.env.WantHandshake(p, now)
	}
}

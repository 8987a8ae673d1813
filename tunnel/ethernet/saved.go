package ethernet

import (
	"tund/crypto/keys"
	"tund/tunnel/l2"
	"tund/tunnel/peer"
)

// Saved is what the switch of another process knew, for a tunnel that goes on in this one.
type Saved struct {
	Switch l2.Saved
	Peers  map[l2.PortID]keys.PublicKey // behind its ports
}

// Save returns what the LAN of another process needs; nil without a TAP. Every loop has ended.
func (e *LAN) Save() *Saved {
	if e == nil {
		return nil
	}
	s := &Saved{Switch: e.sw.Save(), Peers: make(map[l2.PortID]keys.PublicKey)}
	for id := range s.Switch.Ports {
		if p := e.peer(id); p != nil {
			s.Peers[id] = p.PublicKey()
		}
	}
	return s
}

// Continue takes over what another process has saved. alive returns the peer with a key if its
// session goes on, and nil otherwise. Continue is called when the ports are configured, and before
// Run.
func (e *LAN) Continue(s *Saved, alive func(keys.PublicKey) *peer.Peer) {
	if e == nil || s == nil {
		return
	}
	e.sw.Continue(e.env.Clock.Now(), &s.Switch, func(id l2.PortID) (l2.PortID, bool) {
		key, known := s.Peers[id]
		if !known {
			return 0, false
		}
		p := alive(key)
		if p == nil {
			return 0, false
		}
		port := e.port(l2.PortID(p.Port.Load()))
		if port == nil {
			return 0, false
		}
		port.up = true
		return port.id, true
	})
}

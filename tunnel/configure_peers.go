package tunnel

import (
	"maps"
	"slices"

	"tund/crypto/keys"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/l3"
	"tund/tunnel/peer"
	"tund/tunnel/udp"
)

// updated is what a change has made of the peers, before it is the turn of their allowed IPs.
type updated struct {
	touched []*peer.Peer // the peer of each PeerChange; nil where there is none
	// Removed already, because others have taken their places and start over.
	left map[*peer.Peer]bool
	// To be removed once nothing is sent to them any longer, because others have their allowed IPs.
	gone  map[*peer.Peer]bool
	ports map[*peer.Peer]l2.PortConfig
}

// updatePeers makes and changes peers, and removes those that the change names again to have them
// start over.
func (t *Tunnel) updatePeers(c *Change) *updated {
	u := &updated{
		touched: make([]*peer.Peer, len(c.Peers)),
		left:    map[*peer.Peer]bool{}, gone: map[*peer.Peer]bool{}, ports: map[*peer.Peer]l2.PortConfig{},
	}
	own := t.handshakes.PublicKey()
	// The last of the changes that keep or make a peer.
	named := make(map[keys.PublicKey]int, len(c.Peers))
	for i := range c.Peers {
		if !c.Peers[i].Remove {
			named[c.Peers[i].PublicKey] = i
		}
	}
	// Removed together, since each removal copies the list of peers.
	replaced := map[*peer.Peer]bool{}
	leaves := func(p *peer.Peer, at int) {
		if i, again := named[p.PublicKey()]; again && i > at {
			replaced[p] = true
		} else {
			u.gone[p] = true
		}
	}
	if c.RemovePeers || c.ReplacePeers {
		for _, p := range t.peers.All() {
			if _, stays := named[p.PublicKey()]; c.RemovePeers || !stays {
				leaves(p, -1)
			}
		}
	}
	for i := range c.Peers {
		pc := &c.Peers[i]
		p := t.peers.Get(pc.PublicKey)
		if p != nil && replaced[p] {
			t.removePeers(replaced)
			maps.Copy(u.left, replaced)
			clear(replaced)
			p = nil
		}
		switch {
		case pc.Remove, pc.PublicKey == own && !own.IsZero():
			if p != nil {
				leaves(p, i)
			}
			continue
		case p == nil && pc.UpdateOnly:
			continue
		case p == nil:
			p = t.peers.Add(pc.PublicKey)
		}
		t.changePeer(p, pc)
		u.touched[i] = p
		if pc.Ethernet != nil {
			u.ports[p] = *pc.Ethernet
		}
	}
	return u
}

// removePeers takes peers out of every table but those of allowed IPs and of the switch. A lane
// that holds one finishes its batch.
func (t *Tunnel) removePeers(gone map[*peer.Peer]bool) {
	if len(gone) == 0 {
		return
	}
	t.peers.Remove(gone)
	t.extensions.Removed(t.lanes[0], slices.Collect(maps.Keys(gone)))
	for p := range gone {
		p.Remove(t.env.Index)
		t.env.Deadlines.Remove(&p.Deadline)
		t.extensions.SessionChanged(p)
		t.env.Drops.Add(drop.NoPeer, uint64(p.Staged.Close(t.env.Waiting)))
	}
}

func (t *Tunnel) changePeer(p *peer.Peer, c *PeerChange) {
	now := t.env.Clock.Now()
	if c.Name != nil {
		p.SetName(*c.Name)
	}
	if c.Priority != nil {
		p.SetPriority(*c.Priority)
	}
	if c.PresharedKey != nil {
		p.SetPresharedKey(*c.PresharedKey)
	}
	if c.Endpoints != nil {
		p.SetCandidates(c.Endpoints, now)
	}
	if c.Endpoint.IsValid() {
		p.SetEndpoint(udp.Endpoint{Addr: c.Endpoint})
	}
	if c.PostQuantum != nil && p.SetPostQuantum(*c.PostQuantum) && p.Current() != nil {
		t.env.WantHandshake(p, now)
	}
	changed := c.Extensions != nil && p.Extension.SetMode(*c.Extensions)
	if c.Liveness != nil && p.SetLiveness(*c.Liveness) || changed {
		t.extensions.SessionChanged(p)
	}
	if c.Keepalive != nil {
		if p.SetKeepalive(*c.Keepalive, now) && !t.env.Link.KnownDown() {
			// Says at once that we are here, and begins a handshake if need be.
			t.env.WantKeepalive(p, now)
		}
		t.env.Arm(p)
	}
}

// updateRoutes changes the table of allowed IPs for all peers of a change at once, those that leave
// included: at no moment does a prefix that moves from one peer to another belong to neither.
func (t *Tunnel) updateRoutes(c *Change, u *updated) {
	any := len(u.gone)+len(u.left) > 0
	for i := range c.Peers {
		any = any || u.touched[i] != nil && c.Peers[i].changesRoutes()
	}
	if !any {
		return
	}
	t.routes.Update(func(tx *l3.Tx[*peer.Peer]) {
		// First, so that a prefix can move from one peer of the change to another.
		for _, list := range []map[*peer.Peer]bool{u.left, u.gone} {
			for p := range list {
				tx.RemoveOwner(p)
			}
		}
		for i, p := range u.touched {
			if p != nil && c.Peers[i].ReplaceAllowedIPs {
				tx.RemoveOwner(p)
			}
		}
		for i, p := range u.touched {
			if p != nil && !u.left[p] && !u.gone[p] {
				c.Peers[i].applyRoutes(tx, p)
			}
		}
		t.chooseActive(tx)
	})
	select {
	case t.sharing <- struct{}{}:
	default: // it is about to look
	}
}

// applyRoutes changes the allowed IPs of one peer.
func (c *PeerChange) applyRoutes(tx *l3.Tx[*peer.Peer], p *peer.Peer) {
	if c.ReplaceAllowedIPs { // if the change has named the peer before
		tx.RemoveOwner(p)
	}
	for _, prefix := range c.RemoveAllowedIPs {
		tx.Remove(prefix, p)
	}
	for _, prefix := range c.AllowedIPs {
		tx.Insert(prefix, p)
	}
	for _, prefix := range c.SharedIPs {
		tx.Share(prefix, p)
	}
}

// changesRoutes reports whether c touches the table of allowed IPs, or who carries them.
func (c *PeerChange) changesRoutes() bool {
	return c.ReplaceAllowedIPs || c.Priority != nil || len(c.AllowedIPs)+len(c.SharedIPs)+len(c.RemoveAllowedIPs) > 0
}

package desired

import (
	"fmt"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/sources"
	"tund/tunnel"
)

// OnePeer is the change that gives one peer of the tunnel its configuration in c, with what
// follows for the agent's peers, and leaves the others unchanged.
func OnePeer(c *config.Config, key keys.PublicKey, agent sources.Diff, endpoints Endpoints) tunnel.Change {
	var part tunnel.Change
	done := make(map[keys.PublicKey]bool)
	shared := SharedPrefixes(c) // the whole configuration tells
	for i := range c.Peers {
		if p := &c.Peers[i]; p.PublicKey == key {
			done[key] = true
			part.Peers = append(part.Peers, Peer(p, shared, endpoints))
		}
	}
	for _, s := range agent.Steps {
		if s.Is != nil {
			done[s.Key] = true
			part.Peers = append(part.Peers, AgentPeer(s.Is, endpoints))
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

// AgentPeers is the change of the tunnel that follows from one of an agent's peers.
func AgentPeers(agent sources.Diff, endpoints Endpoints) tunnel.Change {
	part := tunnel.Change{Peers: make([]tunnel.PeerChange, 0, len(agent.Steps))}
	set, gone := agent.Peers()
	for _, p := range set {
		part.Peers = append(part.Peers, AgentPeer(p, endpoints))
	}
	for _, key := range gone {
		part.Peers = append(part.Peers, tunnel.PeerChange{PublicKey: key, Remove: true})
	}
	return part
}

// WithChange returns the configuration with a change that an operator asked for, and the public key
// of the peer concerned. It does not change c. An error is a *control.Error.
func WithChange(c *config.Config, change control.PeerChange) (*config.Config, keys.PublicKey, error) {
	refuse := func(err error) (*config.Config, keys.PublicKey, error) {
		return nil, keys.PublicKey{}, &control.Error{Code: control.CodeConfig, Message: err.Error()}
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

// Reload is the change of the tunnel from the configuration old to next. It concerns the peers of
// the file and of tunctl, those of the agent that follow from them, and no others.
func Reload(old, next *config.Config, agent sources.Diff, endpoints Endpoints) tunnel.Change {
	change := Peers(next, endpoints)
	change.ReplacePeers = false
	stays := next.PeerKeys()
	for _, s := range agent.Steps {
		if s.Is != nil {
			stays[s.Key] = true
			change.Peers = append(change.Peers, AgentPeer(s.Is, endpoints))
		}
	}
	remove := func(key keys.PublicKey) {
		if !stays[key] {
			stays[key] = true
			change.Peers = append(change.Peers, tunnel.PeerChange{PublicKey: key, Remove: true})
		}
	}
	for i := range old.Peers {
		remove(old.Peers[i].PublicKey)
	}
	for _, s := range agent.Steps {
		remove(s.Key)
	}
	return change
}

// Complete adds to changes of peers that c has what WireGuard's socket cannot express: their name,
// and whether they carry Ethernet.
func Complete(c *config.Config, changes []tunnel.PeerChange) {
	if len(c.Peers) == 0 {
		return
	}
	known := make(map[keys.PublicKey]*config.Peer, len(c.Peers))
	for i := range c.Peers {
		known[c.Peers[i].PublicKey] = &c.Peers[i]
	}
	for i := range changes {
		change := &changes[i]
		if p := known[change.PublicKey]; p != nil && !change.Remove && !change.UpdateOnly {
			name, port := p.Name, Port(*p)
			change.Name, change.Ethernet = &name, &port
		}
	}
}

// KeepAdded returns next with the peers that now has beyond file, because tunctl has added them,
// and that next does not have. One that next leaves no room for is dropped, and reported to
// dropped.
func KeepAdded(file, now, next *config.Config, dropped func(peer string, why error)) *config.Config {
	known := make(map[keys.PublicKey]bool)
	for _, list := range [][]config.Peer{file.Peers, next.Peers} {
		for i := range list {
			known[list[i].PublicKey] = true
		}
	}
	kept := next
	for i := range now.Peers {
		p := &now.Peers[i]
		if known[p.PublicKey] {
			continue
		}
		with, err := kept.WithAdded(p)
		if err != nil {
			dropped(p.Name, err)
			continue
		}
		kept = with
	}
	return kept
}

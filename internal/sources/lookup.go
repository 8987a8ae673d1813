package sources

import (
	"tund/config"
	"tund/crypto/keys"
)

// Lookup returns the peer with a key, whoever it belongs to; nil: there is none. Own is our own
// key, by which hosts of our own LAN are assigned.
type Lookup struct {
	Peer func(keys.PublicKey) *config.Peer
	Own  keys.PublicKey
	// Pinned returns the peer that a MAC is pinned to by `macs`; nil: it is pinned to none.
	Pinned func(config.MAC) *config.Peer
}

// NewLookup finds the peers of the file and of operators, and beneath them those of the agent.
func NewLookup(own keys.PublicKey, peers []config.Peer, agent *Peers) *Lookup {
	byKey := make(map[keys.PublicKey]*config.Peer, len(peers))
	pinned := make(map[config.MAC]*config.Peer)
	for i := range peers {
		p := &peers[i]
		byKey[p.PublicKey] = p
		for _, m := range p.MACs {
			pinned[m] = p
		}
	}
	return &Lookup{
		Own: own,
		Peer: func(key keys.PublicKey) *config.Peer {
			if p := byKey[key]; p != nil {
				return p
			}
			return agent.Peer(key)
		},
		Pinned: func(m config.MAC) *config.Peer {
			if p := pinned[m]; p != nil {
				return p
			}
			return agent.Pinned(m)
		},
	}
}

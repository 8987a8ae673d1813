package daemon

import (
	"net/netip"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/sources"
	"tund/internal/uapi"
)

// peers returns the peers of all sources but those that WireGuard's tools have added: of these only
// the tunnel knows more than the key. The slice is the caller's, what it points to is not changed.
func (d *Daemon) peers() []*config.Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peersOf(d.config)
}

// peersOf is peers with another configuration in place of the one in force. Callers hold changing
// or mu.
func (d *Daemon) peersOf(c *config.Config) []*config.Peer {
	agent := d.agent.peers.InForce()
	list := make([]*config.Peer, 0, len(c.Peers)+len(agent))
	for i := range c.Peers {
		list = append(list, &c.Peers[i])
	}
	return append(list, agent...)
}

// fileConfig is the configuration of the file, without what tunctl has changed. Callers hold
// changing or mu.
func (d *Daemon) fileConfig() *config.Config {
	if d.override.file != nil {
		return d.override.file
	}
	return d.config
}

// sourceNames returns a function that says who a peer belongs to, and whether the agent's peer of
// that key is shadowed. Callers hold mu, also for each call.
func (d *Daemon) sourceNames() func(keys.PublicKey) (source string, shadows bool) {
	inFile := d.fileConfig().PeerKeys()
	return func(key keys.PublicKey) (string, bool) {
		has, shadowed := d.agent.peers.Has(key)
		switch {
		case inFile[key]:
			return sources.File, shadowed
		case has && !shadowed:
			return sources.Agent, false
		}
		return sources.Runtime, shadowed
	}
}

// others are the peers that the agent cannot have, under a configuration. Callers hold changing.
func (d *Daemon) others(c *config.Config) *sources.Others {
	return sources.NewOthers(c.Peers, d.byHand)
}

// noteByHand notes what WireGuard's tools change: peers that belong to nobody else are theirs, and
// the agent's are no longer as it left them. Callers hold changing.
func (d *Daemon) noteByHand(r uapi.Request) {
	if d.mode.fixed != nil {
		return
	}
	inFile := d.config.PeerKeys()
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.RemovePeers {
		clear(d.byHand)
		d.agent.peers.TouchAll()
		d.agent.state.Touched()
	}
	for i := range r.Peers {
		key := r.Peers[i].PublicKey
		switch {
		case d.agent.peers.Touch(key):
			d.agent.state.Touched()
		case inFile[key]:
		case r.Peers[i].Remove:
			delete(d.byHand, key)
		case d.tunnel.HasPeer(key):
			d.byHand[key] = true
		}
	}
}

// Sources describes what belongs to whom (control.Backend, control.AgentBackend).
func (d *Daemon) sources() []control.Source {
	status := d.tunnel.PeerCount()
	d.mu.Lock()
	defer d.mu.Unlock()
	file := len(d.fileConfig().Peers)
	all, shadowed := d.agent.peers.Len()
	byHand := max(0, status-len(d.config.Peers)-(all-shadowed))
	list := []control.Source{
		{Name: sources.File, Applied: control.At(d.loaded), Peers: file},
		{Name: sources.Runtime, Applied: control.At(d.override.since), Peers: byHand + max(0, len(d.config.Peers)-file)},
	}
	if d.config.Agent != nil {
		list = append(list, d.agent.state.Source(d.agent.peers, d.agent.hosts))
	}
	return list
}

// rejudge judges the agent's peers again for a new configuration. Callers hold changing.
func (d *Daemon) rejudge(next *config.Config) sources.Diff {
	if next.Agent == nil {
		return sources.Diff{}
	}
	others := d.others(next)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.agent.memo = nil
	return d.agent.peers.Rejudge(next.Agent, others)
}

// agentPrefixes returns the allowed IPs of the agent's peers, and those that it may have had in an
// earlier process. Callers hold changing.
func (d *Daemon) agentPrefixes() []netip.Prefix {
	return append(d.agentsFormer(d.config), d.agent.peers.AllowedIPs()...)
}

// agentsFormer returns the networks that may have been the agent's in an earlier process, under a
// configuration. Callers hold changing or mu.
func (d *Daemon) agentsFormer(c *config.Config) []netip.Prefix {
	return sources.MayHave(c.Agent, d.agent.blocked)
}

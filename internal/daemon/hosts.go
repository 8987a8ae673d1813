package daemon

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/handin"
	"tund/internal/sources"
	"tund/tunnel"
	"tund/tunnel/l2"
)

// Hosts that an agent assigns: MAC addresses in the switch, and the IP addresses that it answers
// for. They follow the peers that they belong to.

// changeHosts applies the part of a change that is about hosts, after that about peers. Callers
// hold changing.
func (d *Daemon) changeHosts(c *handin.Batch, whole bool, head control.SourceHead) {
	s := &d.agent
	if !c.HasHosts(whole, head) {
		return
	}
	c.CompleteHosts(s.hosts, whole, head)
	c.Hosts.NewSequences = s.state.Renumbers(head)
	d.mu.Lock()
	diff := s.hosts.Change(c.Hosts, d.config.Agent, d.lookup())
	d.mu.Unlock()
	c.RejectHosts(diff)
	d.assign(diff)
}

// lookup finds the peers of all sources. Callers hold changing.
func (d *Daemon) lookup() *sources.Lookup {
	return sources.NewLookup(d.tunnel.PublicKey(), d.config.Peers, d.agent.peers)
}

// hostPort returns the port of the switch behind which a host of a peer is.
func (d *Daemon) hostPort(key keys.PublicKey) (l2.PortID, bool) {
	if key == d.tunnel.PublicKey() {
		return l2.LocalPort, true
	}
	return d.tunnel.PortOf(key)
}

// assign makes the switch follow a change of the agent's hosts. Callers hold changing.
func (d *Daemon) assign(diff sources.HostDiff) {
	c := desired.Assign(diff, d.hostPort)
	if len(c.Set)+len(c.SetAddrs)+len(c.Remove)+len(c.RemoveAddrs) > 0 {
		d.tellSwitch(c)
	}
}

func (d *Daemon) tellSwitch(c l2.Assignment) {
	if err := d.tunnel.Assign(c); err != nil && !errors.Is(err, tunnel.ErrNoEthernet) {
		d.log.Error("bug: the switch does not take the agent's hosts", zap.Error(err))
	}
}

// followHosts judges the agent's hosts again and tells the switch of all that are left, after peers
// or their ports have changed by others than the agent. Callers hold changing.
func (d *Daemon) followHosts() {
	if hosts, neighbors := d.agent.hosts.Len(); hosts+neighbors == 0 || d.config.Agent == nil {
		return
	}
	d.mu.Lock()
	d.agent.hosts.Rejudge(d.config.Agent, d.lookup(), nil)
	d.mu.Unlock()
	c := desired.AssignAll(d.agent.hosts, d.hostPort)
	d.tellSwitch(c)
}

// hostsFollow judges the hosts of some peers again, after a change of these by the agent. Callers
// hold changing.
func (d *Daemon) hostsFollow(diff sources.Diff) {
	if hosts, neighbors := d.agent.hosts.Len(); hosts+neighbors == 0 || len(diff.Steps) == 0 {
		return
	}
	changed := make(map[keys.PublicKey]bool, len(diff.Steps))
	for _, s := range diff.Steps {
		changed[s.Key] = true
	}
	d.mu.Lock()
	gone := d.agent.hosts.Rejudge(d.config.Agent, d.lookup(), changed)
	d.mu.Unlock()
	d.assign(gone)
}

// expireAgent removes what the agent has handed in for a limited time, and everything once the
// agent has been silent for as long as it has said, until the daemon ends.
func (d *Daemon) expireAgent() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-d.life.Done():
			return
		case now := <-tick.C:
			d.mu.Lock()
			silent := d.agent.state.Silent(now)
			due := silent || d.agent.hosts.Timed()
			d.mu.Unlock()
			if due {
				d.expireNow(now, silent)
			}
		}
	}
}

func (d *Daemon) expireNow(now time.Time, silent bool) {
	if silent {
		if n, err := (agentAPI{d}).clear(func(s *handin.State) bool { return s.Silent(now) }); n > 0 || err != nil {
			d.log.Warn("the agent has been silent for longer than it said: what it handed in is gone", zap.Int("peers", n), zap.Error(err))
		}
		return
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	d.mu.Lock()
	gone := d.agent.hosts.Expire(now)
	d.mu.Unlock()
	d.assign(gone)
}

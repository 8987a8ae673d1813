package daemon

import (
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/names"
	"tund/internal/sources"
	"tund/tunnel"
	"tund/tunnel/l2"
)

// Hosts that an agent assigns: MAC addresses in the switch, and the IP addresses that it answers
// for. They follow the peers that they belong to.

// maxTTL bounds the lifetime of a host: longer ones are as good as for ever.
const maxTTL = 365 * 24 * time.Hour

// expires returns when something with a lifetime in seconds ends; zero: never.
func expires(ttl float64, now time.Time) time.Time {
	if ttl <= 0 || ttl > maxTTL.Seconds() {
		return time.Time{}
	}
	return now.Add(time.Duration(ttl * float64(time.Second)))
}

var errHost = errors.New("want a MAC address like 02:00:00:00:00:01, a VLAN, and the public key of a peer")

// station reads a MAC address in a VLAN.
func station(id control.HostID) (sources.Station, error) {
	mac, err := names.Station(id.MAC)
	if err != nil || id.VLAN < 0 || id.VLAN > int(^uint16(0)) {
		return sources.Station{}, errHost
	}
	return sources.Station{VLAN: uint16(id.VLAN), MAC: mac}, nil
}

// address reads an IP address in a VLAN.
func address(id control.NeighborID) (sources.Address, error) {
	ip, err := netip.ParseAddr(id.IP)
	if err != nil || id.VLAN < 0 || id.VLAN > int(^uint16(0)) {
		return sources.Address{}, errors.New("want an IP address, and a VLAN")
	}
	return sources.Address{VLAN: uint16(id.VLAN), IP: ip.Unmap()}, nil
}

// hostsChange collects the part of a change that is about hosts.
type hostsChange struct {
	sources.HostChange
	now      time.Time
	hosts    int // elements so far
	addrs    int
	rejected []control.Rejected // the first control.MaxRejected
	refused  int
}

func (c *hostsChange) reject(list string, r sources.Rejection) {
	c.refused++
	if len(c.rejected) < control.MaxRejected {
		c.rejected = append(c.rejected, control.Rejected{List: list, Index: r.Index, Code: string(r.Code), Message: r.Message})
	}
}

const (
	listHosts     = "fdb"
	listNeighbors = "neighbors"
)

// Host takes the next host (control.SourceChange).
func (c *hostsChange) Host(e control.HostEntry) {
	i := c.hosts
	c.hosts++
	at, err := station(e.HostID)
	key, err2 := keys.ParsePublic(e.Peer)
	switch {
	case err != nil:
		c.reject(listHosts, sources.Rejection{Index: i, Code: sources.Invalid, Message: err.Error()})
		return
	case err2 != nil:
		c.reject(listHosts, sources.Rejection{Index: i, Code: sources.Invalid, Message: errHost.Error()})
	case len(c.Hosts) >= l2.MaxAssigned:
		c.reject(listHosts, sources.Rejection{Index: i, Code: sources.Limit, Message: "too many in one request"})
	default:
		host := sources.Host{Peer: key, Seq: e.Seq, Sticky: e.Sticky, Expires: expires(e.TTLS, c.now)}
		c.Hosts = append(c.Hosts, sources.HostCandidate{Index: i, At: at, Host: host})
		return
	}
	c.Keep = append(c.Keep, at)
}

// RemoveHost names a host to remove (control.SourceChange).
func (c *hostsChange) RemoveHost(id control.HostID) {
	if at, err := station(id); err == nil { // there is no other
		c.Remove = append(c.Remove, at)
	}
}

// Neighbor takes the next neighbour (control.SourceChange).
func (c *hostsChange) Neighbor(e control.NeighborEntry) {
	i := c.addrs
	c.addrs++
	at, err := address(e.NeighborID)
	mac, err2 := names.Station(e.MAC)
	key, err3 := keys.ParsePublic(e.Peer)
	switch {
	case err != nil:
		c.reject(listNeighbors, sources.Rejection{Index: i, Code: sources.Invalid, Message: err.Error()})
		return
	case err2 != nil || err3 != nil:
		c.reject(listNeighbors, sources.Rejection{Index: i, Code: sources.Invalid, Message: errHost.Error()})
	case len(c.Neighbors) >= l2.MaxAssignedAddrs:
		c.reject(listNeighbors, sources.Rejection{Index: i, Code: sources.Limit, Message: "too many in one request"})
	default:
		neighbor := sources.Neighbor{MAC: mac, Peer: key, Router: e.Router, Expires: expires(e.TTLS, c.now)}
		c.Neighbors = append(c.Neighbors, sources.NeighborCandidate{Index: i, At: at, Neighbor: neighbor})
		return
	}
	c.KeepAddrs = append(c.KeepAddrs, at)
}

// RemoveNeighbor names a neighbour to remove (control.SourceChange).
func (c *hostsChange) RemoveNeighbor(id control.NeighborID) {
	if at, err := address(id); err == nil {
		c.RemoveAddrs = append(c.RemoveAddrs, at)
	}
}

// changeHosts applies the part of a change that is about hosts, after that about peers. Callers
// hold changing.
func (d *Daemon) changeHosts(c *hostsChange, whole bool, head control.SourceHead) {
	s := &d.agent
	if whole && !head.Hosts && !head.Neighbors || !whole && len(c.Hosts)+len(c.Remove)+len(c.Neighbors)+len(c.RemoveAddrs) == 0 {
		return
	}
	c.Whole, c.NewSequences = whole, head.Epoch != s.epoch
	s.hosts.All(func(at sources.Station, _ sources.Host) {
		if whole && !head.Hosts {
			c.Keep = append(c.Keep, at)
		}
	}, func(at sources.Address, _ sources.Neighbor) {
		if whole && !head.Neighbors {
			c.KeepAddrs = append(c.KeepAddrs, at)
		}
	})
	d.mu.Lock()
	diff := s.hosts.Change(c.HostChange, d.config.Agent, d.lookup())
	d.mu.Unlock()
	for _, r := range diff.RejectedHosts {
		c.reject(listHosts, r)
	}
	for _, r := range diff.RejectedNeighbors {
		c.reject(listNeighbors, r)
	}
	d.assign(diff)
}

// lookup finds the peers of all sources. Callers hold changing.
func (d *Daemon) lookup() *sources.Lookup {
	byKey := make(map[keys.PublicKey]*config.Peer, len(d.config.Peers))
	pinned := make(map[config.MAC]*config.Peer)
	for i := range d.config.Peers {
		p := &d.config.Peers[i]
		byKey[p.PublicKey] = p
		for _, m := range p.MACs {
			pinned[m] = p
		}
	}
	agent := d.agent.peers
	return &sources.Lookup{
		Own: d.tunnel.PublicKey(),
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

// hostPort returns the port of the switch behind which a host of a peer is.
func (d *Daemon) hostPort(key keys.PublicKey) (l2.PortID, bool) {
	if key == d.tunnel.PublicKey() {
		return l2.LocalPort, true
	}
	return d.tunnel.PortOf(key)
}

// assign makes the switch follow a change of the agent's hosts. Callers hold changing.
func (d *Daemon) assign(diff sources.HostDiff) {
	var c l2.Assignment
	for at, x := range diff.Set {
		d.addHost(&c, at, x)
	}
	for at, x := range diff.SetAddrs {
		d.addNeighbor(&c, at, x)
	}
	for _, at := range diff.Gone {
		c.Remove = append(c.Remove, l2.Assigned{MAC: l2.MACFromBytes(at.MAC[:]), VLAN: at.VLAN})
	}
	for _, at := range diff.GoneAddrs {
		c.RemoveAddrs = append(c.RemoveAddrs, l2.AssignedAddr{Addr: at.IP, VLAN: at.VLAN})
	}
	if len(c.Set)+len(c.SetAddrs)+len(c.Remove)+len(c.RemoveAddrs) > 0 {
		d.tellSwitch(c)
	}
}

// addHost adds a host to an assignment, if its peer has a port.
func (d *Daemon) addHost(c *l2.Assignment, at sources.Station, x sources.Host) {
	if id, ok := d.hostPort(x.Peer); ok {
		c.Set = append(c.Set, l2.Assigned{MAC: l2.MACFromBytes(at.MAC[:]), VLAN: at.VLAN, Port: id, Seq: x.Seq, Sticky: x.Sticky})
	}
}

func (d *Daemon) addNeighbor(c *l2.Assignment, at sources.Address, x sources.Neighbor) {
	if id, ok := d.hostPort(x.Peer); ok {
		c.SetAddrs = append(c.SetAddrs, l2.AssignedAddr{Addr: at.IP, VLAN: at.VLAN, MAC: l2.MACFromBytes(x.MAC[:]), Port: id, Router: x.Router})
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
	c := l2.Assignment{Whole: true}
	d.agent.hosts.All(func(at sources.Station, x sources.Host) { d.addHost(&c, at, x) },
		func(at sources.Address, x sources.Neighbor) { d.addNeighbor(&c, at, x) })
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
			silent := d.agent.hold > 0 && now.Sub(d.agent.heard) > d.agent.hold
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
		if n, err := (agentAPI{d}).clear(func(s *agentState) bool { return s.hold > 0 && now.Sub(s.heard) > s.hold }); n > 0 || err != nil {
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

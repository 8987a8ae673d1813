package desired

import (
	"tund/crypto/keys"
	"tund/internal/sources"
	"tund/tunnel/l2"
)

// PortOf returns the port of the switch behind which the hosts of a peer are; false: there is none.
type PortOf func(keys.PublicKey) (l2.PortID, bool)

// Assign returns what the switch is to change for a difference of the agent's hosts. Those whose
// peer has no port are left out.
func Assign(diff sources.HostDiff, port PortOf) (c l2.Assignment) {
	for at, x := range diff.Set {
		addHost(&c, port, at, x)
	}
	for at, x := range diff.SetAddrs {
		addNeighbor(&c, port, at, x)
	}
	for _, at := range diff.Gone {
		c.Remove = append(c.Remove, l2.Assigned{MAC: l2.MACFromBytes(at.MAC[:]), VLAN: at.VLAN})
	}
	for _, at := range diff.GoneAddrs {
		c.RemoveAddrs = append(c.RemoveAddrs, l2.AssignedAddr{Addr: at.IP, VLAN: at.VLAN})
	}
	return c
}

// AssignAll returns all hosts of the agent, which replace those that the switch has.
func AssignAll(hosts *sources.Hosts, port PortOf) l2.Assignment {
	c := l2.Assignment{Whole: true}
	hosts.All(func(at sources.Station, x sources.Host) { addHost(&c, port, at, x) },
		func(at sources.Address, x sources.Neighbor) { addNeighbor(&c, port, at, x) })
	return c
}

func addHost(c *l2.Assignment, port PortOf, at sources.Station, x sources.Host) {
	if id, ok := port(x.Peer); ok {
		c.Set = append(c.Set, l2.Assigned{MAC: l2.MACFromBytes(at.MAC[:]), VLAN: at.VLAN, Port: id, Seq: x.Seq, Sticky: x.Sticky})
	}
}

func addNeighbor(c *l2.Assignment, port PortOf, at sources.Address, x sources.Neighbor) {
	if id, ok := port(x.Peer); ok {
		c.SetAddrs = append(c.SetAddrs, l2.AssignedAddr{Addr: at.IP, VLAN: at.VLAN, MAC: l2.MACFromBytes(x.MAC[:]), Port: id, Router: x.Router})
	}
}

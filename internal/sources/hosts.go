package sources

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/names"
)

// Bounds on the hosts that the agent may assign: those of the switch (l2.MaxAssigned and
// l2.MaxAssignedAddrs).
const (
	maxHosts     = 65_536
	maxNeighbors = 65_536
	maxVLAN      = 4094
)

// Codes of a Rejection of a host, beside those of peers.
const (
	Unknown Code = "peer"     // there is no such peer
	VLAN    Code = "vlan"     // the peer does not carry the VLAN
	Older   Code = "sequence" // another peer has the MAC with a higher sequence number
)

// Station is a MAC address in a VLAN.
type Station struct {
	VLAN uint16 // 0: untagged frames
	MAC  config.MAC
}

// Address is an IP address in a VLAN.
type Address struct {
	VLAN uint16
	IP   netip.Addr // IPv4 never mapped into IPv6
}

// Host says where a MAC address lives: an entry of the forwarding database.
type Host struct {
	Peer    keys.PublicKey
	Seq     uint32 // counts the moves of the host
	Sticky  bool
	Expires time.Time // zero: never
}

// Neighbor says which MAC address has an IP address.
type Neighbor struct {
	MAC     config.MAC
	Peer    keys.PublicKey
	Router  bool
	Expires time.Time // zero: never
}

// HostChange is what an agent wants of the hosts that it assigns.
type HostChange struct {
	Whole        bool // hosts and neighbours that are not set go, unless they are kept
	Hosts        []HostCandidate
	Remove       []Station
	Keep         []Station
	Neighbors    []NeighborCandidate
	RemoveAddrs  []Address
	KeepAddrs    []Address
	NewSequences bool // sequence numbers so far do not count
}

// HostCandidate is a host that an agent hands in.
type HostCandidate struct {
	Index int
	At    Station
	Host  Host
}

// NeighborCandidate is a neighbour that an agent hands in.
type NeighborCandidate struct {
	Index int
	At    Address
	Neighbor
}

// HostDiff is what a change did. The zero HostDiff did nothing.
type HostDiff struct {
	Set               map[Station]Host
	Gone              []Station
	SetAddrs          map[Address]Neighbor
	GoneAddrs         []Address
	RejectedHosts     []Rejection // in order of their candidates
	RejectedNeighbors []Rejection
}

// Hosts are those that the agent has assigned. Like Peers, they have no lock.
type Hosts struct {
	hosts     map[Station]Host
	neighbors map[Address]Neighbor
	perPeer   map[keys.PublicKey]int // of hosts
	timed     int                    // hosts and neighbours that expire
}

// NewHosts returns an agent's hosts, of which there are none yet.
func NewHosts() *Hosts {
	return &Hosts{hosts: make(map[Station]Host), neighbors: make(map[Address]Neighbor), perPeer: make(map[keys.PublicKey]int)}
}

// Len returns how many hosts and neighbours there are.
func (h *Hosts) Len() (hosts, neighbors int) { return len(h.hosts), len(h.neighbors) }

// All calls host for each host and neighbor for each neighbour, in no particular order.
func (h *Hosts) All(host func(Station, Host), neighbor func(Address, Neighbor)) {
	for at, x := range h.hosts {
		host(at, x)
	}
	for at, x := range h.neighbors {
		neighbor(at, x)
	}
}

// Change judges what an agent wants, applies what is permitted, and says what follows.
func (h *Hosts) Change(c HostChange, b *config.Agent, l *Lookup) HostDiff {
	d := HostDiff{Set: make(map[Station]Host), SetAddrs: make(map[Address]Neighbor)}
	for _, at := range c.Remove {
		h.dropHost(at, &d)
	}
	for _, at := range c.RemoveAddrs {
		h.dropNeighbor(at, &d)
	}
	if c.Whole {
		h.dropOthers(&c, &d)
	}
	// Of two candidates for one address the one with the higher sequence number counts.
	slices.SortStableFunc(c.Hosts, func(x, y HostCandidate) int { return cmp.Compare(y.Host.Seq, x.Host.Seq) })
	for i := range c.Hosts {
		x := &c.Hosts[i]
		code, why := h.judgeHost(x, b, l, &d, c.NewSequences)
		if code != "" {
			d.RejectedHosts = append(d.RejectedHosts, Rejection{x.Index, code, why})
			continue
		}
		if h.setHost(x.At, x.Host) {
			d.Set[x.At] = x.Host
		}
	}
	for i := range c.Neighbors {
		x := &c.Neighbors[i]
		code, why := h.judgeNeighbor(x, b, l)
		if code != "" {
			d.RejectedNeighbors = append(d.RejectedNeighbors, Rejection{x.Index, code, why})
			continue
		}
		if h.setNeighbor(x.At, x.Neighbor) {
			d.SetAddrs[x.At] = x.Neighbor
		}
	}
	slices.SortFunc(d.RejectedHosts, func(x, y Rejection) int { return x.Index - y.Index })
	d.settle()
	return d
}

// settle removes from what goes that which comes.
func (d *HostDiff) settle() {
	d.Gone = slices.DeleteFunc(d.Gone, func(at Station) bool { _, comes := d.Set[at]; return comes })
	d.GoneAddrs = slices.DeleteFunc(d.GoneAddrs, func(at Address) bool { _, comes := d.SetAddrs[at]; return comes })
}

// dropOthers removes what a whole change neither sets nor keeps.
func (h *Hosts) dropOthers(c *HostChange, d *HostDiff) {
	stay := make(map[Station]bool, len(c.Hosts))
	for i := range c.Hosts {
		stay[c.Hosts[i].At] = true
	}
	for _, at := range c.Keep {
		stay[at] = true
	}
	for at := range h.hosts {
		if !stay[at] {
			h.dropHost(at, d)
		}
	}
	addrs := make(map[Address]bool, len(c.Neighbors))
	for i := range c.Neighbors {
		addrs[c.Neighbors[i].At] = true
	}
	for _, at := range c.KeepAddrs {
		addrs[at] = true
	}
	for at := range h.neighbors {
		if !addrs[at] {
			h.dropNeighbor(at, d)
		}
	}
}

func (h *Hosts) dropHost(at Station, d *HostDiff) {
	was, there := h.hosts[at]
	if !there {
		return
	}
	delete(h.hosts, at)
	h.count(was.Peer, -1)
	h.timed -= timed(was.Expires)
	d.Gone = append(d.Gone, at)
}

func (h *Hosts) dropNeighbor(at Address, d *HostDiff) {
	if was, there := h.neighbors[at]; there {
		delete(h.neighbors, at)
		h.timed -= timed(was.Expires)
		d.GoneAddrs = append(d.GoneAddrs, at)
	}
}

func timed(t time.Time) int {
	if t.IsZero() {
		return 0
	}
	return 1
}

func (h *Hosts) count(peer keys.PublicKey, by int) {
	if h.perPeer[peer] += by; h.perPeer[peer] == 0 {
		delete(h.perPeer, peer)
	}
}

// setHost reports whether the switch has to be told: a new lifetime alone concerns us only.
func (h *Hosts) setHost(at Station, x Host) bool {
	was, there := h.hosts[at]
	if there {
		h.count(was.Peer, -1)
		h.timed -= timed(was.Expires)
	}
	h.hosts[at] = x
	h.count(x.Peer, 1)
	h.timed += timed(x.Expires)
	was.Expires = x.Expires
	return !there || was != x
}

func (h *Hosts) setNeighbor(at Address, x Neighbor) bool {
	was, there := h.neighbors[at]
	h.timed += timed(x.Expires) - timed(was.Expires)
	h.neighbors[at] = x
	was.Expires = x.Expires
	return !there || was != x
}

// judgeHost says why a host cannot be assigned.
func (h *Hosts) judgeHost(x *HostCandidate, b *config.Agent, l *Lookup, d *HostDiff, anew bool) (Code, string) {
	if _, named := d.Set[x.At]; named {
		return Duplicate, "the request has this address already"
	}
	was, there := h.hosts[x.At]
	if there && !anew && was.Peer != x.Host.Peer && x.Host.Seq < was.Seq {
		return Older, fmt.Sprintf("sequence number %d, and that in force is %d", x.Host.Seq, was.Seq)
	}
	if !there && len(h.hosts) >= maxHosts {
		return Limit, fmt.Sprintf("the agent has assigned %d MAC addresses, which is the most", maxHosts)
	}
	p, code, why := l.permitted(x.Host.Peer, x.At.VLAN, x.At.MAC, b)
	if code != "" || p == nil {
		return code, why
	}
	if p.MaxMACs > 0 && h.perPeer[p.PublicKey] >= int(p.MaxMACs) && !(there && was.Peer == x.Host.Peer) {
		return Limit, fmt.Sprintf("%s has %d MAC addresses, as many as max_macs allows", p.Name, p.MaxMACs)
	}
	return "", ""
}

// judgeNeighbor says why a neighbour cannot be assigned.
func (h *Hosts) judgeNeighbor(x *NeighborCandidate, b *config.Agent, l *Lookup) (Code, string) {
	if ip := x.At.IP; !ip.IsValid() || ip.Is4In6() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() ||
		ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return Invalid, "is not the IP address of a host"
	}
	if _, there := h.neighbors[x.At]; !there && len(h.neighbors) >= maxNeighbors {
		return Limit, fmt.Sprintf("the agent has named %d neighbours, which is the most", maxNeighbors)
	}
	_, code, why := l.permitted(x.Peer, x.At.VLAN, x.MAC, b)
	return code, why
}

// permitted says why a MAC address cannot be behind a peer. The peer is nil for our own LAN.
func (l *Lookup) permitted(key keys.PublicKey, vlan uint16, mac config.MAC, b *config.Agent) (*config.Peer, Code, string) {
	if !b.Ethernet {
		return nil, Ethernet, "[agent] ethernet does not permit frames"
	}
	if vlan > maxVLAN || mac == (config.MAC{}) || mac[0]&1 != 0 {
		return nil, Invalid, "want the MAC address of a host, and a VLAN from 0 (untagged) to 4094"
	}
	if names.SharedStation(mac) {
		return nil, Invalid, fmt.Sprintf("%v is shared by routers, which say by their election where it is", mac)
	}
	pinned := l.Pinned(mac)
	if key == l.Own && !key.IsZero() {
		if pinned != nil {
			return nil, MAC, fmt.Sprintf("%v is pinned to %s", mac, pinned.Name)
		}
		return nil, "", ""
	}
	p := l.Peer(key)
	switch {
	case p == nil:
		return nil, Unknown, "there is no peer with this public key"
	case !p.Ethernet:
		return nil, Ethernet, p.Name + " does not carry frames"
	case !carriesVLAN(p, vlan):
		return nil, VLAN, fmt.Sprintf("%s does not carry VLAN %d", p.Name, vlan)
	case pinned != nil && pinned.PublicKey != key:
		return nil, MAC, fmt.Sprintf("%v is pinned to %s", mac, pinned.Name)
	case len(p.MACs) > 0 && pinned == nil:
		return nil, MAC, fmt.Sprintf("%v is not among the addresses of %s", mac, p.Name)
	}
	return p, "", ""
}

// carriesVLAN reports whether a peer carries a VLAN, as the switch does.
func carriesVLAN(p *config.Peer, vlan uint16) bool {
	switch {
	case slices.Contains(p.VLANs, vlan):
		return true
	case vlan == 0:
		return len(p.VLANs) == 0 && p.PVID == 0
	}
	return p.PVID == vlan
}

// Timed reports whether anything expires.
func (h *Hosts) Timed() bool { return h.timed > 0 }

// Rejudge judges the hosts of the given peers (nil: of all) again, after these or the bounds of the
// file have changed. Those that are no longer permitted go.
func (h *Hosts) Rejudge(b *config.Agent, l *Lookup, of map[keys.PublicKey]bool) HostDiff {
	var d HostDiff
	for at, x := range h.hosts {
		if of != nil && !of[x.Peer] {
			continue
		}
		p, code, _ := l.permitted(x.Peer, at.VLAN, at.MAC, b)
		if code != "" || p != nil && p.MaxMACs > 0 && h.perPeer[x.Peer] > int(p.MaxMACs) {
			h.dropHost(at, &d)
		}
	}
	for at, x := range h.neighbors {
		if of != nil && !of[x.Peer] {
			continue
		}
		if _, code, _ := l.permitted(x.Peer, at.VLAN, x.MAC, b); code != "" {
			h.dropNeighbor(at, &d)
		}
	}
	return d
}

// Expire removes what has expired.
func (h *Hosts) Expire(now time.Time) HostDiff {
	var d HostDiff
	if h.timed == 0 {
		return d
	}
	over := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	for at, x := range h.hosts {
		if over(x.Expires) {
			h.dropHost(at, &d)
		}
	}
	for at, x := range h.neighbors {
		if over(x.Expires) {
			h.dropNeighbor(at, &d)
		}
	}
	return d
}

package handin

import (
	"errors"
	"net/netip"
	"time"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/names"
	"tund/internal/sources"
	"tund/tunnel/l2"
)

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

// Host takes the next host (control.SourceChange).
func (b *Batch) Host(e control.HostEntry) {
	i := b.hosts
	b.hosts++
	at, err := station(e.HostID)
	key, err2 := keys.ParsePublic(e.Peer)
	switch {
	case err != nil:
		b.Reject(Hosts, sources.Rejection{Index: i, Code: sources.Invalid, Message: err.Error()})
		return
	case err2 != nil:
		b.Reject(Hosts, sources.Rejection{Index: i, Code: sources.Invalid, Message: errHost.Error()})
	case len(b.Hosts.Hosts) >= l2.MaxAssigned:
		b.Reject(Hosts, sources.Rejection{Index: i, Code: sources.Limit, Message: "too many in one request"})
	default:
		host := sources.Host{Peer: key, Seq: e.Seq, Sticky: e.Sticky, Expires: expires(e.TTLS, b.now)}
		b.Hosts.Hosts = append(b.Hosts.Hosts, sources.HostCandidate{Index: i, At: at, Host: host})
		return
	}
	b.Hosts.Keep = append(b.Hosts.Keep, at)
}

// RemoveHost names a host to remove (control.SourceChange).
func (b *Batch) RemoveHost(id control.HostID) {
	if at, err := station(id); err == nil { // there is no other
		b.Hosts.Remove = append(b.Hosts.Remove, at)
	}
}

// Neighbor takes the next neighbour (control.SourceChange).
func (b *Batch) Neighbor(e control.NeighborEntry) {
	i := b.addrs
	b.addrs++
	at, err := address(e.NeighborID)
	mac, err2 := names.Station(e.MAC)
	key, err3 := keys.ParsePublic(e.Peer)
	switch {
	case err != nil:
		b.Reject(Neighbors, sources.Rejection{Index: i, Code: sources.Invalid, Message: err.Error()})
		return
	case err2 != nil || err3 != nil:
		b.Reject(Neighbors, sources.Rejection{Index: i, Code: sources.Invalid, Message: errHost.Error()})
	case len(b.Hosts.Neighbors) >= l2.MaxAssignedAddrs:
		b.Reject(Neighbors, sources.Rejection{Index: i, Code: sources.Limit, Message: "too many in one request"})
	default:
		neighbor := sources.Neighbor{MAC: mac, Peer: key, Router: e.Router, Expires: expires(e.TTLS, b.now)}
		b.Hosts.Neighbors = append(b.Hosts.Neighbors, sources.NeighborCandidate{Index: i, At: at, Neighbor: neighbor})
		return
	}
	b.Hosts.KeepAddrs = append(b.Hosts.KeepAddrs, at)
}

// RemoveNeighbor names a neighbour to remove (control.SourceChange).
func (b *Batch) RemoveNeighbor(id control.NeighborID) {
	if at, err := address(id); err == nil {
		b.Hosts.RemoveAddrs = append(b.Hosts.RemoveAddrs, at)
	}
}

// HasHosts reports whether the change, with its head, is about hosts or neighbours at all. One of
// the whole is about those lists that its head names, even if they are empty.
func (b *Batch) HasHosts(whole bool, head control.SourceHead) bool {
	if whole {
		return head.Hosts || head.Neighbors
	}
	h := &b.Hosts
	return len(h.Hosts)+len(h.Remove)+len(h.Neighbors)+len(h.RemoveAddrs) > 0
}

// CompleteHosts says of a change of the whole that it leaves alone the list of present that its
// head does not name.
func (b *Batch) CompleteHosts(present *sources.Hosts, whole bool, head control.SourceHead) {
	b.Hosts.Whole = whole
	if !whole {
		return
	}
	present.All(func(at sources.Station, _ sources.Host) {
		if !head.Hosts {
			b.Hosts.Keep = append(b.Hosts.Keep, at)
		}
	}, func(at sources.Address, _ sources.Neighbor) {
		if !head.Neighbors {
			b.Hosts.KeepAddrs = append(b.Hosts.KeepAddrs, at)
		}
	})
}

// RejectHosts notes what of the hosts and neighbours was refused.
func (b *Batch) RejectHosts(diff sources.HostDiff) {
	for _, r := range diff.RejectedHosts {
		b.Reject(Hosts, r)
	}
	for _, r := range diff.RejectedNeighbors {
		b.Reject(Neighbors, r)
	}
}

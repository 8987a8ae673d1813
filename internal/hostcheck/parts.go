package hostcheck

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Part is a part of an allowed IP that does not go through the tunnel.
type Part struct {
	Of   netip.Prefix // the allowed IP
	Part netip.Prefix // Of itself, if From is set
	Link string       // where it goes; "": nowhere
	// Refused is the type of a route that refuses it, as ip(8) writes it; "": none does.
	Refused string
	// From is the link by which packets come that a rule leads elsewhere; "": all do.
	From string
	Src  netip.Addr // an address at From
}

// Bounds on what is looked up of a host in one examination.
const (
	maxAsked = 16 // allowed IPs whose way is asked for, for each network of the host
	maxLANs  = 8
)

// The least lengths of allowed IPs of which a part that is routed elsewhere is named. Shorter ones
// are summaries of what may be anywhere, such as 10.0.0.0/8.
const (
	leastNamed4 = 16
	leastNamed6 = 32
)

// ReadParts returns the parts of allowed IPs for which the main table has a route by way of a
// router that another link leads to, or one of somebody else that refuses them. Networks that the
// host is in itself, and routes to single hosts, such as the endpoint of a peer, are passed over:
// they are there on purpose. It reads the whole table, and keeps of it only what it returns.
func (t *Tunnel) ReadParts(h Host) ([]Part, error) {
	tun := h.link(t.Device)
	if tun == nil || !t.Routed {
		return nil, nil
	}
	var list []Part
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	err := netlink.RouteListFilteredIter(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		refused := refusals[r.Type]
		if refused == "" && (r.Type != unix.RTN_UNICAST || r.Gw == nil) || refused != "" && int(r.Protocol) == t.Protocol ||
			r.Dst == nil || r.LinkIndex == tun.Index {
			return true
		}
		part, err := netip.ParsePrefix(r.Dst.String())
		if err != nil || part.IsSingleIP() {
			return true
		}
		if of, ok := t.covers(part); ok && refused != "" {
			list = append(list, Part{Of: of, Part: part, Refused: refused})
		} else if ok {
			if link := h.byIndex(r.LinkIndex); link != nil {
				list = append(list, Part{Of: of, Part: part, Link: link.Name})
			}
		}
		return len(list) < maxNamed
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return list, nil
}

// refusals are the types of routes that refuse packets, with their names in ip(8).
var refusals = map[int]string{unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_BLACKHOLE: "blackhole"}

// covers returns the allowed IP that a longer prefix is a part of.
func (t *Tunnel) covers(part netip.Prefix) (of netip.Prefix, ok bool) {
	for _, a := range t.Allowed {
		least := leastNamed4
		if a.Addr().Is6() {
			least = leastNamed6
		}
		if a.Bits() >= least && a.Bits() < part.Bits() && a.Contains(part.Addr()) {
			return a, true
		}
	}
	return of, false
}

// ReadDiverted returns the allowed IPs for which what comes from a network of the host is led
// elsewhere, by a policy rule that does not concern the host's own packets.
func (t *Tunnel) ReadDiverted(h Host) (list []Part) {
	tun := h.link(t.Device)
	if tun == nil || !tun.Up || !t.Routed {
		return nil
	}
	seen := make(map[*Link]bool) // it may have a network of each family
	for _, lan := range t.served(h) {
		if seen[lan] || lan.Master != "" || len(seen) == maxLANs { // a VRF's, or a port
			continue
		}
		seen[lan] = true
		for _, a := range t.Allowed[:min(len(t.Allowed), maxAsked)] {
			src := lan.neighbor(a.Addr().Is6())
			if a.Bits() == 0 || !src.IsValid() || slices.ContainsFunc(t.Astray, func(x Astray) bool { return x.Prefix == a }) {
				continue
			}
			to := a.Addr()
			if !a.IsSingleIP() {
				to = a.Masked().Addr().Next()
			}
			routes, err := netlink.RouteGetWithOptions(net.IP(to.AsSlice()), &netlink.RouteGetOptions{IifIndex: lan.Index, SrcAddr: net.IP(src.AsSlice())})
			if err != nil || len(routes) == 0 || routes[0].LinkIndex == tun.Index || routes[0].Type != unix.RTN_UNICAST {
				continue
			}
			if link := h.byIndex(routes[0].LinkIndex); link != nil && link != lan {
				list = append(list, Part{Of: a, Part: a, Link: link.Name, From: lan.Name, Src: src})
			}
		}
	}
	return list[:min(len(list), maxNamed)]
}

// neighbor returns an address that another host in a network of the link may have; the zero Addr if
// it has no network of the family.
func (l *Link) neighbor(v6 bool) netip.Addr {
	for _, a := range l.Addrs {
		if a.Addr().Is6() != v6 || a.Addr().IsLinkLocalUnicast() || a.Bits() > a.Addr().BitLen()-2 {
			continue
		}
		first := a.Masked().Addr().Next()
		return cmp.Or(other(first, a.Addr()), first.Next())
	}
	return netip.Addr{}
}

// other returns a unless it is the same as b.
func other(a, b netip.Addr) netip.Addr {
	if a == b {
		return netip.Addr{}
	}
	return a
}

// byIndex returns the link with an index, or nil.
func (h *Host) byIndex(index int) *Link {
	for i := range h.Links {
		if h.Links[i].Index == index {
			return &h.Links[i]
		}
	}
	return nil
}

// parts finds the allowed IPs of which only a part, or only what some send, goes through the
// tunnel.
func (t *Tunnel) parts() (list []Finding) {
	for _, p := range t.Parts {
		f := Finding{Kind: Elsewhere, Subject: p.Part.String()}
		if p.Refused != "" {
			f.Message = fmt.Sprintf("%v, a part of the allowed IP %v, is covered by a route of type %s that is not tund's: nothing is sent to it through the tunnel",
				p.Part, p.Of, p.Refused)
			f.Remedy = fmt.Sprintf("remove that route (ip route show %v), or leave this part out of allowed_ips", p.Part)
		} else if p.From != "" {
			f.Subject += " from " + p.From
			f.Message = fmt.Sprintf("%v is an allowed IP, and a policy rule leads what comes by %s for it to %s: the network at %s does not reach it through the tunnel",
				p.Of, p.From, p.Link, p.From)
			f.Remedy = fmt.Sprintf("find the rule (ip rule; ip route get %v from %v iif %s), and let it leave out %v", p.Of.Masked().Addr().Next(), p.Src, p.From, p.Of)
		} else {
			f.Message = fmt.Sprintf("%v, a part of the allowed IP %v, is led to %s by a route that is not tund's: nothing is sent to it through the tunnel",
				p.Part, p.Of, p.Link)
			f.Remedy = fmt.Sprintf("remove that route (ip route show %v), or leave this part out of allowed_ips", p.Part)
		}
		list = append(list, f)
	}
	return list
}

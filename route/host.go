package route

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"tund/internal/netwatch"
	"tund/route/mark"
	"tund/route/path"
)

// hostView is what a plan depends on of the links that are not the instance's.
type hostView struct {
	// Indices of links that have such a network, also while they are down.
	rivals map[int]bool
	lans   map[netip.Prefix]link // such networks, with a link that has one and is up

	// neighbors are the networks that this host is in and that a full tunnel would otherwise hide
	// from it, in ascending order.
	neighbors []netip.Prefix
	hides     func(netip.Prefix) bool // whether the full tunnel, if any, would hide a network
}

// maxNeighbors bounds the networks with a rule each: the kernel goes through all rules for each
// route that it looks up.
const maxNeighbors = 64

func newHostView(s State, f facts) hostView {
	h := hostView{rivals: make(map[int]bool), lans: make(map[netip.Prefix]link), hides: s.hides()}
	routed := make(map[netip.Prefix]bool)
	for _, d := range s.Devices {
		for _, r := range d.Routes {
			if r.inMain() {
				routed[r.Dst] = true
			}
		}
	}
	for o := range f.addrs {
		l, ok := f.links[o.dev]
		if !ok || l.loopback || s.has(o.dev) {
			continue
		}
		if h.hides(o.addr) {
			h.neighbors = append(h.neighbors, o.addr.Masked())
		}
		if !routed[o.addr.Masked()] {
			continue
		}
		h.rivals[l.index] = true
		if other, known := h.lans[o.addr.Masked()]; l.up && (!known || l.name < other.name) {
			h.lans[o.addr.Masked()] = l
		}
	}
	slices.SortFunc(h.neighbors, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	h.neighbors = slices.Compact(h.neighbors)
	return h
}

// hides returns whether the full tunnel of s, if it is one, leads packets to a network of this host
// into the tunnel, and so also the kernel's question, with strict reverse path filtering, whether a
// neighbour in that network may send to us: then it would not even answer ARP.
func (s State) hides() func(network netip.Prefix) bool {
	v4, v6 := s.FullTunnel()
	if s.LocalNetworks == LocalAll {
		v4, v6 = false, false
	}
	return func(network netip.Prefix) bool {
		addr := network.Addr()
		if network.IsSingleIP() || addr.Is4() && !v4 || addr.Is6() && !v6 || addr.IsLinkLocalUnicast() && addr.Is6() {
			return false
		}
		return s.LocalNetworks == LocalNone || !slices.ContainsFunc(path.PrivateDestinations(addr.Is6()),
			func(p netip.Prefix) bool { return p.Bits() <= network.Bits() && p.Contains(addr) })
	}
}

// has reports whether a link is one of the State's devices.
func (s State) has(name string) bool {
	return slices.ContainsFunc(s.Devices, func(d Device) bool { return d.Name == name })
}

// affects reports whether a notice about something that is not ours may change the plan, or make
// the kernel accept what it has refused. routed reports whether a route of ours leads to a network.
func (h hostView) affects(n netwatch.Notice, routed func(netip.Prefix) bool) bool {
	switch n.Kind {
	case netwatch.Link:
		return h.rivals[n.Index]
	case netwatch.Addr:
		return n.Prefix.IsValid() && (routed(n.Prefix.Masked()) || h.hides != nil && h.hides(n.Prefix))
	case netwatch.Route:
		return n.Del && n.Protocol != mark.Protocol && routed(n.Prefix)
	}
	return false
}

// yields reports whether the host itself is in the network that a route leads to, and warns of it.
// The route would compete with the one that the kernel makes for that network: for IPv4, the one
// that came first would win. So that the outcome does not depend on the order, the host's own
// network wins.
func (p *planner) yields(r Route) bool {
	l, ok := p.host.lans[r.Dst]
	if ok {
		p.warnings = append(p.warnings, fmt.Sprintf("%v is an allowed IP and also the network of %s, "+
			"which keeps it: nothing is sent to it through the tunnel; give one of the two sites "+
			"another network, or replace the allowed IP by longer ones", r.Dst, l.name))
	}
	return ok
}

package route

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
)

// hostView is what a plan depends on of the links that are not the instance's.
type hostView struct {
	routed map[netip.Prefix]bool // destinations that the State leads into a device by the main table
	rivals map[int]bool          // indices of links that have such a network, also while they are down
	lans   map[netip.Prefix]link // such networks, with a link that has one and is up
}

func newHostView(s State, f facts) hostView {
	h := hostView{
		routed: make(map[netip.Prefix]bool), rivals: make(map[int]bool),
		lans: make(map[netip.Prefix]link),
	}
	for _, d := range s.Devices {
		for _, r := range d.Routes {
			if !r.policy() && (r.Table == 0 || r.Table == unix.RT_TABLE_MAIN) {
				h.routed[r.Dst] = true
			}
		}
	}
	for o := range f.addrs {
		l, ok := f.links[o.dev]
		if !ok || !h.routed[o.addr.Masked()] || s.has(o.dev) {
			continue
		}
		h.rivals[l.index] = true
		if other, known := h.lans[o.addr.Masked()]; l.up && (!known || l.name < other.name) {
			h.lans[o.addr.Masked()] = l
		}
	}
	return h
}

// has reports whether a link is one of the State's devices.
func (s State) has(name string) bool {
	return slices.ContainsFunc(s.Devices, func(d Device) bool { return d.Name == name })
}

// affects reports whether a notice about something that is not ours may change the plan, or make the
// kernel accept what it has refused.
func (h hostView) affects(n netwatch.Notice) bool {
	switch n.Kind {
	case netwatch.Link:
		return h.rivals[n.Index]
	case netwatch.Addr:
		return n.Prefix.IsValid() && h.routed[n.Prefix.Masked()]
	case netwatch.Route:
		return n.Del && n.Protocol != Protocol && h.routed[n.Prefix]
	}
	return false
}

// yields reports whether the host itself is in the network that a route leads to, and warns of it. The
// route would compete with the one that the kernel makes for that network: for IPv4, the one that came
// first would win. So that the outcome does not depend on the order, the host's own network wins.
func (p *planner) yields(r Route) bool {
	l, ok := p.host.lans[r.Dst]
	if ok {
		p.warnings = append(p.warnings, fmt.Sprintf("%v is an allowed IP and also the network of %s, "+
			"which keeps it: nothing is sent to it through the tunnel; give one of the two sites "+
			"another network, or replace the allowed IP by longer ones", r.Dst, l.name))
	}
	return ok
}

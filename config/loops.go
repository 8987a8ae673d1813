package config

import (
	"net/netip"
	"slices"
)

// literal is an endpoint given by address, with its place.
type literal struct {
	addr netip.Addr
	peer *section
	at   int
}

// checkEndpoints warns about endpoints that lie inside allowed IPs: the routes of those lead our
// own datagrams into the tunnel. A default route does not, since full tunnels spare our datagrams;
// and with a table of the operator's own the rules are, too. An endpoint behind another peer is a
// tunnel inside a tunnel, which works as long as that peer is reached directly.
func (l *loader) checkEndpoints() {
	if l.cfg.Tun == nil || !l.cfg.Tun.Routes || l.cfg.Tun.Table != 0 {
		return
	}
	lengths := make(map[int]bool)
	for p := range l.allowedIPs {
		lengths[p.Bits()] = true
	}
	delete(lengths, 0)
	var longestFirst []int
	for bits := range lengths {
		longestFirst = append(longestFirst, bits)
	}
	slices.SortFunc(longestFirst, func(a, b int) int { return b - a })
	cover := func(a netip.Addr) (netip.Prefix, *section) {
		a = a.Unmap().WithZone("")
		for _, bits := range longestFirst {
			if p, err := a.Prefix(bits); err == nil {
				if owner, ok := l.allowedIPs[p]; ok {
					return p, owner.peer
				}
			}
		}
		return netip.Prefix{}, nil
	}
	nested := make(map[*section]bool) // has an endpoint inside allowed IPs
	for _, e := range l.literals {
		if _, owner := cover(e.addr); owner != nil {
			nested[e.peer] = true
		}
	}
	for _, e := range l.literals {
		p, owner := cover(e.addr)
		switch {
		case owner == nil:
		case owner == e.peer:
			e.peer.warnAt(e.at, "endpoint", "%s is inside the peer's own allowed IP %s: unless a more specific route leads there, "+
				"our datagrams to it go into the tunnel itself", e.addr, p)
		case nested[owner]:
			e.peer.warnAt(e.at, "endpoint", "%s is inside the allowed IP %s of %s, whose own endpoint is inside allowed IPs, too: "+
				"a tunnel inside a tunnel works one level deep only", e.addr, p, owner.label)
		}
	}
}

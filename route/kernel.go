package route

import (
	"net/netip"
)

// kernel is all that a Manager needs of Linux: netlinkKernel in earnest, a model in tests. Methods may be called
// by one goroutine at a time.
type kernel interface {
	// read returns the present state of everything that a diff looks at.
	read() (facts, error)

	// add makes the object be there. An mtuObject, guardObject or masterObject replaces the old value. For the
	// others EEXIST says that something in its place is not ours.
	add(instance string, o object) error

	// replace atomically points the route with the same destination, table and metric at o's device.
	replace(o routeObject) error

	// remove undoes add: a link goes down, leaves its bridge, the sysctl returns to 0. An object that is not
	// there is an error for which gone reports true.
	remove(instance string, o object) error

	// hop asks the routing tables where a packet with the mark would leave.
	hop(dst netip.Addr, mark uint32) (hop, error)

	// departure asks by which link a packet with this source address would leave.
	departure(dst, src netip.Addr, mark uint32) (index int, err error)

	// addresses returns those of every link.
	addresses() ([]netip.Addr, error)

	close() error
}

// facts is one reading of the kernel's state.
type facts struct {
	links  map[string]link
	addrs  map[addrObject]bool
	routes map[routeObject]bool // of our protocol only, all tables
	rules  map[ruleObject]bool  // of our protocol only
	guards map[string]guardFact // by instance

	srcValidMark  bool // net.ipv4.conf.all.src_valid_mark
	strictReverse bool // some interface checks reverse paths strictly (rp_filter=1)
}

// link is what a diff needs to know of a network interface.
type link struct {
	name     string
	index    int
	bridge   bool
	loopback bool
	mtu      int
	up       bool
	master   string // name of the bridge or bond above it, "" for none
	group    uint32
}

// guardFact is what was found of an instance's nftables table.
type guardFact struct {
	digest  string // "" when chains or rules are missing
	restore bool
}

// hop is the answer of a route lookup.
type hop struct {
	dev      string
	mtu      int // bytes: the least of the link's, the route's and the cached path MTU
	loopback bool
}

// has reports whether o is there exactly as wanted.
func (f facts) has(instance string, o object) bool {
	switch o := o.(type) {
	case bridgeObject:
		l, ok := f.links[o.name]
		return ok && l.bridge && l.group == group(instance)
	case mtuObject:
		return f.links[o.dev].mtu == o.mtu
	case masterObject:
		return f.links[o.dev].master == o.bridge
	case upObject:
		return f.links[o.dev].up
	case addrObject:
		return f.addrs[o]
	case guardObject:
		g, ok := f.guards[instance]
		return ok && g.digest == o.digest() && g.restore == o.restore
	case restoreObject:
		return f.guards[o.heir].restore
	case sysctlObject:
		return f.srcValidMark
	case routeObject:
		return f.routes[o]
	case ruleObject:
		return f.rules[o]
	}
	panic("route: object of an unknown type") // the types are listed in object.go
}

// ports returns the names of the links that have the bridge as their master.
func (f facts) ports(bridge string) []string {
	var ports []string
	for name, l := range f.links {
		if l.master == bridge {
			ports = append(ports, name)
		}
	}
	return ports
}

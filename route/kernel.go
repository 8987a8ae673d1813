package route

import (
	"net/netip"

	"tund/route/path"
	"tund/route/sysctl"
)

// kernel is all that a Manager needs of Linux: netlinkKernel, or a model in tests. Its methods are
// called by one goroutine at a time.
type kernel interface {
	// read returns the present state of everything that a diff compares.
	read() (facts, error)

	// readLocal is read of links and addresses only.
	readLocal() (facts, error)

	// add, replace and remove do what the methods of objects of these names say.
	add(instance string, o object) error
	replace(o routeObject) error
	remove(instance string, o object) error

	// Hop and Departure are those of path.Lookup.
	Hop(dst netip.Addr, mark uint32, oif string) (path.Hop, error)
	Departure(dst, src netip.Addr, mark uint32, oif string) (index int, err error)

	// through returns the routes by way of a router through a link.
	through(link string) ([]path.Via, error)

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

	// Whether each setting that the kernel has is on; of settings of links, those with a default
	// route from router advertisements, and those that an instance has switched on.
	sysctls       map[sysctl.Setting]bool
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
	digest  string     // "" when chains or rules are missing
	fence   bool       // it belongs to a full tunnel
	uses    sysctl.Set // that the instance needs
	restore sysctl.Set // that were off before us
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

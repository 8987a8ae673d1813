// Package path asks the kernel's routing tables where packets would go: by which link, and with
// which MTU. It changes nothing.
//
// A Lookup belongs to one goroutine at a time. Sources: rtnetlink(7), ip-route(8).
package path

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hop is the answer of a route lookup.
type Hop struct {
	Dev      string
	MTU      int // bytes: the lesser of the link's and the route's
	Loopback bool
}

// Lookup asks through a netlink socket, in the network namespace of that.
type Lookup struct{ Handle *netlink.Handle }

// Hop returns where the routing tables send a packet with the mark, from a socket that is bound to
// the link oif unless that is "". It is an error when they have no route.
func (l Lookup) Hop(dst netip.Addr, mark uint32, oif string) (Hop, error) {
	index, mtu, err := l.route(dst, netlink.RouteGetOptions{Mark: mark, Oif: oif})
	if err != nil {
		return Hop{}, err
	}
	link, err := l.Handle.LinkByIndex(index)
	if err != nil {
		return Hop{}, Errno(err)
	}
	a := link.Attrs()
	h := Hop{Dev: a.Name, MTU: a.MTU, Loopback: a.Flags&net.FlagLoopback != 0}
	if mtu == 0 {
		return h, nil
	}
	// An ordinary lookup answers with the path MTU learned from ICMP in place of the metric of the
	// routing table's entry.
	_, metric, err := l.route(dst, netlink.RouteGetOptions{Mark: mark, Oif: oif, FIBMatch: true})
	if metric != 0 {
		h.MTU = min(h.MTU, metric)
	}
	return h, err
}

// Departure returns the index of the link by which a packet from src, which may be zero, would
// leave; mark and oif are as in Hop. It is an error when src is not an address of this host, or
// there is no route.
func (l Lookup) Departure(dst, src netip.Addr, mark uint32, oif string) (index int, err error) {
	index, _, err = l.route(dst, netlink.RouteGetOptions{Mark: mark, Oif: oif, SrcAddr: src.WithZone("").AsSlice()})
	return index, err
}

// route returns the link and the MTU of the route to dst; MTU 0: it names none.
func (l Lookup) route(dst netip.Addr, o netlink.RouteGetOptions) (index, mtu int, err error) {
	if zone := dst.Zone(); zone != "" {
		o.Oif = zone
	}
	routes, err := l.Handle.RouteGetWithOptions(dst.WithZone("").AsSlice(), &o)
	if err != nil {
		return 0, 0, Errno(err)
	}
	if len(routes) == 0 || routes[0].LinkIndex == 0 && !o.FIBMatch {
		return 0, 0, unix.EHOSTUNREACH // blackhole, unreachable and prohibit routes name no link
	}
	return routes[0].LinkIndex, routes[0].MTU, nil
}

// Errno turns the library's own "link not found" into the errno that it hides.
func Errno(err error) error {
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return unix.ENODEV
	}
	return err
}

package route

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"tund/internal/names"
)

// State is everything that one instance wants from the kernel. The zero State wants nothing.
type State struct {
	// Devices are existing links (the TUN, the TAP), in any order, each at most once.
	Devices []Device

	// FwMark is the mark on the instance's own UDP packets; 0 lets Apply choose one if a full
	// tunnel needs it (Manager.Mark tells beforehand which).
	FwMark uint32

	// LocalNetworks says which destinations a full tunnel leaves to the main table.
	LocalNetworks LocalNetworks

	// Guard says whether traffic for the Routes goes nowhere, instead of by another route, while
	// their device is missing.
	Guard Guard

	// Forward lets the kernel forward IPv4 and IPv6 between all links, for as long as the State
	// lasts. Links with a default route from router advertisements go on accepting these.
	Forward bool
	// Masquerade is the device whose packets, when they are forwarded to another one, get the
	// address of that; "": none. Public IPv6 addresses (2000::/3) are left as they are.
	Masquerade string
}

// Guard is whether every Route has an unreachable route of a worse metric behind it.
type Guard uint8

const (
	// GuardCrash has such routes. Close removes them; Leave does not.
	GuardCrash Guard = iota
	// GuardOff has none: without its device, traffic takes whatever route is left.
	GuardOff
)

// Device is the desired state of one link.
type Device struct {
	Name string // at most 15 bytes

	// Addrs are host addresses with their network's length ("10.9.0.1/24"), not masked.
	Addrs []netip.Prefix

	// Routes lead into the device. A route that the kernel makes by itself, because an address has
	// that network, is left to the kernel.
	Routes []Route

	// MTU is in bytes. 0: that of the bridge or of its other ports, or without a bridge the link's
	// own, from before another State said one.
	MTU int
	Up  bool // bring the link up; false leaves it as it is

	// Bridge is the Linux bridge to join, "" for none. It is made when absent, and then removed
	// when the last port has gone: at Close, Cleanup, or the Close of another instance that left
	// later. A bridge that tund did not make is never changed (not even set up), and one with
	// other ports is never removed.
	Bridge string
}

// Route is one destination through a device.
type Route struct {
	Dst    netip.Prefix // masked
	Table  uint32       // 0: main, or the instance's own table when Dst is a default route
	Metric uint32       // 0: the kernel's default (0 for IPv4, 1024 for IPv6); lower wins
}

// LocalNetworks is a choice of destinations that bypass a full tunnel.
type LocalNetworks uint8

const (
	// LocalPrivate lets private and link-local destinations (RFC 1918, RFC 3927, RFC 4193,
	// fe80::/10) leave by routes of the main table other than the default. It resists
	// TunnelVision and TunnelCrack for all public addresses.
	LocalPrivate LocalNetworks = iota
	// LocalAll lets every route of the main table except the default win over the tunnel, as
	// wg-quick does. It is for hosts that sit in a public prefix and must reach their neighbours
	// outside the tunnel.
	LocalAll
	// LocalNone sends everything but the instance's own packets into the tunnel.
	LocalNone
)

// Applied is what the kernel has of a State, read back after the changes.
type Applied struct {
	// State holds only what was reached; FwMark is the mark in use and default routes name their
	// table.
	State

	// FullTunnel4 and FullTunnel6 report that policy routing leads the family's traffic into the
	// tunnel.
	FullTunnel4, FullTunnel6 bool

	// BridgesMade are the bridges that this instance created.
	BridgesMade []string

	// Warnings are things an operator should know that are not failures, one sentence each.
	Warnings []string
}

// RoutesFor turns allowed IPs into routes with one table and metric. Duplicates are dropped, and
// prefixes are masked.
func RoutesFor(allowed []netip.Prefix, table, metric uint32) []Route {
	seen := make(map[netip.Prefix]bool, len(allowed))
	routes := make([]Route, 0, len(allowed))
	for _, p := range allowed {
		p = p.Masked()
		if !seen[p] {
			seen[p] = true
			routes = append(routes, Route{Dst: p, Table: table, Metric: metric})
		}
	}
	return routes
}

// FullTunnel reports for which address families s asks for policy routing.
func (s State) FullTunnel() (ipv4, ipv6 bool) {
	for _, d := range s.Devices {
		for _, r := range d.Routes {
			if r.policy() {
				ipv4 = ipv4 || r.Dst.Addr().Is4()
				ipv6 = ipv6 || r.Dst.Addr().Is6()
			}
		}
	}
	return ipv4, ipv6
}

// policy reports whether r is a default route that needs policy routing.
func (r Route) policy() bool { return r.Table == 0 && r.Dst.Bits() == 0 }

// compare orders routes by destination, table and metric.
func (r Route) compare(o Route) int {
	return cmp.Or(r.Dst.Compare(o.Dst), cmp.Compare(r.Table, o.Table), cmp.Compare(r.Metric, o.Metric))
}

// sort puts the routes of s in order.
func (s State) sort() {
	for _, d := range s.Devices {
		slices.SortFunc(d.Routes, Route.compare)
	}
}

// inMain reports whether r is in the main table.
func (r Route) inMain() bool { return !r.policy() && (r.Table == 0 || r.Table == unix.RT_TABLE_MAIN) }

// validate returns everything that is wrong with s, or nil.
func (s State) validate() error {
	var errs []error
	seen := make(map[string]bool)
	for _, d := range s.Devices {
		if err := names.KernelDevice(d.Name); err != nil {
			errs = append(errs, fmt.Errorf("device name %q: %w", d.Name, err))
		}
		if seen[d.Name] {
			errs = append(errs, fmt.Errorf("device %q given twice", d.Name))
		}
		seen[d.Name] = true
		if err := names.KernelDevice(d.Bridge); err != nil && d.Bridge != "" {
			errs = append(errs, fmt.Errorf("bridge name %q: %w", d.Bridge, err))
		}
		if d.Bridge == d.Name && d.Name != "" {
			errs = append(errs, fmt.Errorf("device %q cannot be a port of itself", d.Name))
		}
		for _, a := range d.Addrs {
			if !a.IsValid() || a.Addr().Is4In6() || a.Addr().Zone() != "" {
				errs = append(errs, fmt.Errorf("device %q: address %v: want an address with a length", d.Name, a))
			}
		}
		for _, r := range d.Routes {
			if !r.Dst.IsValid() || r.Dst.Addr().Is4In6() || r.Dst != r.Dst.Masked() {
				errs = append(errs, fmt.Errorf("device %q: route %v is not a masked prefix", d.Name, r.Dst))
			}
		}
	}
	return errors.Join(errs...)
}

// clone returns a copy that shares no slice with s.
func (s State) clone() State {
	s.Devices = slices.Clone(s.Devices)
	for i := range s.Devices {
		d := &s.Devices[i]
		d.Addrs, d.Routes = slices.Clone(d.Addrs), slices.Clone(d.Routes)
	}
	return s
}

package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Questions about the network around the instance. They change nothing.

// DefaultPathMTU is what PathMTU returns when nothing is known: that of Ethernet, in bytes.
const DefaultPathMTU = 1500

// PathMTU returns the smallest MTU, in bytes, on the way to the endpoints for packets with the
// given mark: of the route's MTU metric and the outgoing link's MTU. The path MTU that the kernel
// learned for a destination does not count: it comes from ICMP messages, which anybody can forge.
// Endpoints that cannot be reached now, those on this host, and those behind a device of the
// State applied last do not count: an endpoint inside the tunnel says nothing about the way
// there. DefaultPathMTU is returned when none is left. The error says why endpoints did not
// count; the number is usable all the same.
func (m *Manager) PathMTU(endpoints []netip.Addr, mark uint32) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return DefaultPathMTU, ErrClosed
	}
	own := make([]string, 0, len(m.state.Devices))
	for _, d := range m.state.Devices {
		own = append(own, d.Name)
	}
	return pathMTU(m.k, endpoints, mark, own...)
}

func pathMTU(k kernel, endpoints []netip.Addr, mark uint32, own ...string) (int, error) {
	least := 0
	var errs []error
	for _, addr := range endpoints {
		h, err := k.hop(addr.Unmap(), mark)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("route to %v: %w", addr, err))
		case h.loopback || slices.Contains(own, h.dev):
		case least == 0 || h.mtu < least:
			least = h.mtu
		}
	}
	if least == 0 {
		least = DefaultPathMTU
	}
	return least, errors.Join(errs...)
}

// Departure returns the index of the link by which a packet from src to dst with the given mark
// leaves at present. It is an error when src is not an address of this host, or there is no route.
func (m *Manager) Departure(dst, src netip.Addr, mark uint32) (index int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, ErrClosed
	}
	return m.k.departure(dst, src, mark)
}

// LeadsIntoTunnel reports whether a packet to addr with the given mark would leave through one of
// the devices of the State applied last: an endpoint for which that holds would carry the tunnel
// inside itself.
func (m *Manager) LeadsIntoTunnel(addr netip.Addr, mark uint32) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, ErrClosed
	}
	h, err := m.k.hop(addr.Unmap(), mark)
	if err != nil {
		return false, fmt.Errorf("route to %v: %w", addr, err)
	}
	return slices.ContainsFunc(m.state.Devices, func(d Device) bool { return d.Name == h.dev }), nil
}

// Addresses returns the addresses of this host, of all its devices. The slice is the caller's.
func (m *Manager) Addresses() ([]netip.Addr, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	return m.k.addresses()
}

func (k *netlinkKernel) hop(dst netip.Addr, mark uint32) (hop, error) {
	routes, err := k.rt.RouteGetWithOptions(dst.WithZone("").AsSlice(),
		&netlink.RouteGetOptions{Mark: mark, Oif: dst.Zone()})
	if err != nil {
		return hop{}, errnoOf(err)
	}
	if len(routes) == 0 || routes[0].LinkIndex == 0 {
		return hop{}, unix.EHOSTUNREACH // blackhole, unreachable and prohibit routes name no link
	}
	l, err := k.rt.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return hop{}, errnoOf(err)
	}
	h := hop{dev: l.Attrs().Name, mtu: l.Attrs().MTU, loopback: l.Attrs().Flags&net.FlagLoopback != 0}
	if routes[0].MTU == 0 {
		return h, nil
	}
	metric, err := k.routeMTU(dst, mark)
	if metric != 0 {
		h.mtu = min(h.mtu, metric)
	}
	return h, err
}

// routeMTU returns the MTU metric of the entry of the routing table that leads to dst, in bytes; 0:
// it has none. An ordinary lookup answers with the path MTU learned from ICMP in its place.
func (k *netlinkKernel) routeMTU(dst netip.Addr, mark uint32) (int, error) {
	routes, err := k.rt.RouteGetWithOptions(dst.WithZone("").AsSlice(),
		&netlink.RouteGetOptions{Mark: mark, Oif: dst.Zone(), FIBMatch: true})
	if err != nil {
		return 0, errnoOf(err)
	}
	if len(routes) == 0 {
		return 0, unix.EHOSTUNREACH // it has just gone
	}
	return routes[0].MTU, nil
}

func (k *netlinkKernel) departure(dst, src netip.Addr, mark uint32) (int, error) {
	routes, err := k.rt.RouteGetWithOptions(dst.WithZone("").AsSlice(), &netlink.RouteGetOptions{
		Mark: mark, Oif: dst.Zone(), SrcAddr: src.WithZone("").AsSlice(),
	})
	if err != nil {
		return 0, errnoOf(err)
	}
	if len(routes) == 0 || routes[0].LinkIndex == 0 {
		return 0, unix.EHOSTUNREACH
	}
	return routes[0].LinkIndex, nil
}

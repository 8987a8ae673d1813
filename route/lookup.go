package route

import (
	"fmt"
	"net/netip"

	"tund/route/path"
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
	return path.LeastMTU(DefaultPathMTU, endpoints, own, func(addr netip.Addr) (path.Hop, error) {
		return m.k.Hop(addr, mark, m.bound)
	})
}

// Bind makes PathMTU, Departure and LeadsIntoTunnel answer for sockets that are bound to a link; ""
// for sockets that are not.
func (m *Manager) Bind(link string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bound = link
}

// Leaves returns the index of the link by which the packets of this host's programs leave for dst.
func (m *Manager) Leaves(dst netip.Addr) (index int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, ErrClosed
	}
	return m.k.Departure(dst, netip.Addr{}, 0, "")
}

// Departure returns the index of the link by which a packet from src to dst with the given mark
// leaves at present. It is an error when src is not an address of this host, or there is no route.
func (m *Manager) Departure(dst, src netip.Addr, mark uint32) (index int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, ErrClosed
	}
	return m.k.Departure(dst, src, mark, m.bound)
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
	h, err := m.k.Hop(addr.Unmap(), mark, m.bound)
	if err != nil {
		return false, fmt.Errorf("look up the route to %v: %w", addr, err)
	}
	return m.state.has(h.Dev), nil
}

// Through returns the routes that lead through a device by way of a router, from the main table.
func (m *Manager) Through(device string) ([]path.Via, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	return m.k.through(device)
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

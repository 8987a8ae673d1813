package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// DefaultPathMTU is what PathMTU answers when nothing is known: Ethernet's.
const DefaultPathMTU = 1500

// PathMTU returns the smallest MTU, in bytes, on the way to the endpoints for packets with the given mark: of the
// cached path MTU, the route's MTU metric and the outgoing link's MTU. Endpoints that cannot be reached
// now, and those on this host, do not count; DefaultPathMTU when none is left. The error tells why
// endpoints did not count; the number is usable all the same. It looks in the calling thread's namespace.
func PathMTU(endpoints []netip.Addr, mark uint32) (int, error) {
	k, err := openLookup()
	if err != nil {
		return DefaultPathMTU, fmt.Errorf("open netlink: %w", err)
	}
	mtu, err := pathMTU(k, endpoints, mark)
	return mtu, errors.Join(err, k.close())
}

// PathMTU is the function PathMTU in the Manager's namespace. Devices of the State applied last do not count
// either: an endpoint inside the tunnel says nothing about the way there.
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

package path

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// LeastMTU returns the smallest MTU, in bytes, of the hops towards addrs, or otherwise if none
// counts. Those that cannot be reached, that are on this host, or that are behind one of the links
// called own do not count. The error says why some could not be looked up; the number is usable all
// the same.
func LeastMTU(otherwise int, addrs []netip.Addr, own []string, hop func(netip.Addr) (Hop, error)) (int, error) {
	least := 0
	var errs []error
	for _, addr := range addrs {
		h, err := hop(addr.Unmap())
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("look up the route to %v: %w", addr, err))
		case h.Loopback || slices.Contains(own, h.Dev):
		case least == 0 || h.MTU < least:
			least = h.MTU
		}
	}
	if least == 0 {
		least = otherwise
	}
	return least, errors.Join(errs...)
}

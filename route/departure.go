package route

import (
	"net/netip"
)

// Departure returns the index of the link by which a packet from src to dst with the given mark leaves, at present. It
// is an error when src is not an address of this host, or there is no way.
func (m *Manager) Departure(dst, src netip.Addr, mark uint32) (index int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, ErrClosed
	}
	return m.k.departure(dst, src, mark)
}

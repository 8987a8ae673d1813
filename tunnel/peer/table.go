package peer

import (
	"net/netip"
	"slices"
	"sync"

	"tund/crypto/keys"
)

// Table holds the peers of a tunnel, by public key and in order of configuration. The zero Table is
// not usable: see NewTable. No lane takes its lock.
type Table struct {
	mu    sync.RWMutex // guards what follows; removal replaces order as a whole
	byKey map[keys.PublicKey]*Peer
	order []*Peer
}

// NewTable returns a table without peers.
func NewTable() *Table { return &Table{byKey: make(map[keys.PublicKey]*Peer)} }

// Get returns the peer with a public key, or nil.
func (t *Table) Get(key keys.PublicKey) *Peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byKey[key]
}

// All returns the peers in order of configuration. The caller must not change the slice.
func (t *Table) All() []*Peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clip(t.order)
}

// Add makes a peer with a key that is not in the table yet.
func (t *Table) Add(key keys.PublicKey) *Peer {
	p := New(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byKey[key] = p
	t.order = append(t.order, p)
	return p
}

// Remove removes peers.
func (t *Table) Remove(gone map[*Peer]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := make([]*Peer, 0, len(t.order))
	for _, p := range t.order {
		if gone[p] {
			delete(t.byKey, p.key)
		} else {
			kept = append(kept, p)
		}
	}
	t.order = kept
}

// At returns the peer whose endpoint is addr, or nil. Zones are ignored, because a zone may be a
// name in one address and a number in the other.
func (t *Table) At(addr netip.AddrPort) *Peer {
	for _, p := range t.All() {
		if ep := p.endpoint.Load(); ep != nil && ep.Addr.Port() == addr.Port() &&
			ep.Addr.Addr().WithZone("") == addr.Addr().WithZone("") {
			return p
		}
	}
	return nil
}

// Package l3 implements cryptokey routing: which peer owns an inner IP address, and what the header
// of an IP packet says.
//
// One table answers both questions of the WireGuard whitepaper §2: the receiver of an outgoing
// packet is the owner of its destination, and an incoming packet is genuine only when its sender
// owns its source. Owners are compared after a look-up in the one table of all peers. Asking
// whether a peer's own list contains the source would accept addresses that belong to another
// peer's more specific prefix.
//
// The package knows addresses and lengths. It does not parse transport headers, and it holds no
// peers: owners are any comparable value.
package l3

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/gaissmai/bart"
)

// Table maps prefixes to their owners by longest match. The zero value is an empty table.
//
// Lookup takes no lock and may run beside Update. Updates are serialized; each is seen whole or not
// at all.
type Table[V comparable] struct {
	mu      sync.Mutex // serializes Update; not taken by readers
	current atomic.Pointer[bart.Table[V]]
}

// Lookup returns the owner of the longest prefix that contains ip. An IPv4-mapped address is never
// found: the callers take addresses from IP headers, which do not hold such.
func (t *Table[V]) Lookup(ip netip.Addr) (owner V, ok bool) {
	cur := t.current.Load()
	if cur == nil {
		return owner, false
	}
	return cur.Lookup(ip)
}

// Update calls change with a private copy of the table and publishes the copy when change returns.
func (t *Table[V]) Update(change func(*Tx[V])) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := new(bart.Table[V])
	if cur := t.current.Load(); cur != nil {
		next = cur.Clone()
	}
	change(&Tx[V]{next})
	t.current.Store(next)
}

// All calls yield for every prefix and its owner, IPv4 before IPv6, each in ascending order, until
// it returns false.
func (t *Table[V]) All(yield func(netip.Prefix, V) bool) {
	cur := t.current.Load()
	if cur == nil {
		return
	}
	for p, v := range cur.AllSorted() {
		if !yield(p, v) {
			return
		}
	}
}

// Len returns the number of prefixes.
func (t *Table[V]) Len() int {
	cur := t.current.Load()
	if cur == nil {
		return 0
	}
	return cur.Size()
}

// Tx is a table being changed. It is valid only inside Update.
type Tx[V comparable] struct{ t *bart.Table[V] }

// Insert makes owner the owner of prefix, whoever had it before. Bits past the prefix length are
// ignored.
func (tx *Tx[V]) Insert(prefix netip.Prefix, owner V) { tx.t.Insert(prefix.Masked(), owner) }

// Remove takes prefix away from owner; another owner's prefix stays.
func (tx *Tx[V]) Remove(prefix netip.Prefix, owner V) {
	prefix = prefix.Masked()
	if v, ok := tx.t.Get(prefix); ok && v == owner {
		tx.t.Delete(prefix)
	}
}

// RemoveOwners takes every prefix away from the owners for whom gone is true, in one pass over the
// table.
func (tx *Tx[V]) RemoveOwners(gone func(V) bool) {
	var out []netip.Prefix
	for p, v := range tx.t.All() {
		if gone(v) {
			out = append(out, p)
		}
	}
	for _, p := range out {
		tx.t.Delete(p)
	}
}

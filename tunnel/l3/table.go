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
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gaissmai/bart"
)

// Table maps prefixes to their owners by longest match. The zero value is an empty table.
//
// Lookup takes no lock and may run beside Update. Updates are serialized; each is seen whole or not
// at all, and costs what it changes, whatever the size of the table.
type Table[V comparable] struct {
	mu      sync.Mutex           // serializes Update; not taken by readers
	owned   map[V][]netip.Prefix // what each owner has; guarded by mu
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

// Update calls change with a private version of the table and publishes it when change returns.
func (t *Table[V]) Update(change func(*Tx[V])) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owned == nil {
		t.owned = make(map[V][]netip.Prefix)
	}
	tx := &Tx[V]{table: t.current.Load(), owned: t.owned}
	if tx.table == nil {
		tx.table, tx.private = new(bart.Table[V]), true
	}
	change(tx)
	t.current.Store(tx.table)
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

// maxShared is the number of prefixes up to which an update copies only the nodes that it changes.
// For more of them it is cheaper to copy the table once.
const maxShared = 64

// Tx is a table being changed. It is valid only inside Update.
type Tx[V comparable] struct {
	table   *bart.Table[V]
	private bool // nobody else has the table: it can be changed in place
	changes int  // prefixes inserted and deleted so far
	owned   map[V][]netip.Prefix
}

// count notes one more change, and makes the table private when there are many.
func (tx *Tx[V]) count() {
	if tx.changes++; tx.changes > maxShared && !tx.private {
		tx.table, tx.private = tx.table.Clone(), true
	}
}

// Insert makes owner the owner of prefix, whoever had it before. Bits past the prefix length are
// ignored.
func (tx *Tx[V]) Insert(prefix netip.Prefix, owner V) {
	prefix = prefix.Masked()
	was, taken := tx.table.Get(prefix)
	if taken && was == owner {
		return
	}
	if taken {
		tx.disown(prefix, was)
	}
	tx.owned[owner] = append(tx.owned[owner], prefix)
	tx.count()
	if tx.private {
		tx.table.Insert(prefix, owner)
	} else {
		tx.table = tx.table.InsertPersist(prefix, owner)
	}
}

// Remove takes prefix away from owner; another owner's prefix stays.
func (tx *Tx[V]) Remove(prefix netip.Prefix, owner V) {
	prefix = prefix.Masked()
	if v, ok := tx.table.Get(prefix); ok && v == owner {
		tx.disown(prefix, owner)
		tx.delete(prefix)
	}
}

// RemoveOwner takes every prefix away from owner.
func (tx *Tx[V]) RemoveOwner(owner V) {
	for _, prefix := range tx.owned[owner] {
		tx.delete(prefix)
	}
	delete(tx.owned, owner)
}

// disown strikes prefix from the list of its owner.
func (tx *Tx[V]) disown(prefix netip.Prefix, owner V) {
	left := tx.owned[owner]
	if i := slices.Index(left, prefix); i >= 0 {
		left = slices.Delete(left, i, i+1)
	}
	if len(left) == 0 {
		delete(tx.owned, owner)
		return
	}
	tx.owned[owner] = left
}

func (tx *Tx[V]) delete(prefix netip.Prefix) {
	tx.count()
	if tx.private {
		tx.table.Delete(prefix)
	} else {
		tx.table = tx.table.DeletePersist(prefix)
	}
}

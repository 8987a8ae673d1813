package l3

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// maxInPlace is the number of prefixes up to which an update copies only the nodes that it changes.
// For more of them it is cheaper to copy the table once.
const maxInPlace = 64

// Tx is a table being changed. It is valid only inside Update.
type Tx[V comparable] struct {
	table   *bart.Table[V]
	private bool // nobody else has the table: it can be changed in place
	changes int  // prefixes inserted and deleted so far
	owned   map[V][]netip.Prefix

	shared       map[netip.Prefix][]V // its lists are not changed in place: they are being read
	sharedIsOurs bool                 // nobody else has the map
}

// Insert makes owner the only owner of prefix, whoever had it before. Bits past the prefix length
// are ignored.
func (tx *Tx[V]) Insert(prefix netip.Prefix, owner V) {
	prefix = prefix.Masked()
	active, taken := tx.table.Get(prefix)
	owners, several := tx.shared[prefix]
	switch {
	case taken && !several && active == owner:
		return
	case several:
		for _, v := range owners {
			tx.disown(prefix, v)
		}
		tx.share(prefix, nil)
	case taken:
		tx.disown(prefix, active)
	}
	tx.owned[owner] = append(tx.owned[owner], prefix)
	tx.put(prefix, owner)
}

// Share makes owner one of the owners of prefix. The one that is active remains so; the first is.
func (tx *Tx[V]) Share(prefix netip.Prefix, owner V) {
	prefix = prefix.Masked()
	active, taken := tx.table.Get(prefix)
	owners, several := tx.shared[prefix]
	switch {
	case !taken:
		tx.put(prefix, owner)
	case !several && active == owner, slices.Contains(owners, owner):
		return
	case !several:
		tx.share(prefix, []V{active, owner})
	default:
		tx.share(prefix, append(slices.Clone(owners), owner))
	}
	tx.owned[owner] = append(tx.owned[owner], prefix)
}

// Choose makes the result of best the active owner of each prefix that has several. best gets all
// of them, in the order in which they were given, and returns one; it keeps no reference to the
// slice and does not change it.
func (tx *Tx[V]) Choose(best func(owners []V) V) {
	for prefix, owners := range tx.shared {
		tx.activate(prefix, best(owners))
	}
}

// Remove takes prefix away from owner; other owners keep it.
func (tx *Tx[V]) Remove(prefix netip.Prefix, owner V) {
	prefix = prefix.Masked()
	active, taken := tx.table.Get(prefix)
	if taken && active == owner || slices.Contains(tx.shared[prefix], owner) {
		tx.disown(prefix, owner)
		tx.leave(prefix, owner)
	}
}

// RemoveOwner takes every prefix away from owner.
func (tx *Tx[V]) RemoveOwner(owner V) {
	for _, prefix := range tx.owned[owner] {
		tx.leave(prefix, owner)
	}
	delete(tx.owned, owner)
}

// leave takes owner from the owners of a prefix that it has. If it was the active one, the first of
// the others takes over.
func (tx *Tx[V]) leave(prefix netip.Prefix, owner V) {
	owners, several := tx.shared[prefix]
	if !several {
		tx.delete(prefix)
		return
	}
	left := slices.DeleteFunc(slices.Clone(owners), func(v V) bool { return v == owner })
	if active, _ := tx.table.Get(prefix); active == owner {
		tx.put(prefix, left[0])
	}
	if len(left) == 1 {
		left = nil
	}
	tx.share(prefix, left)
}

// share sets the owners of a prefix; none: it has one owner alone.
func (tx *Tx[V]) share(prefix netip.Prefix, owners []V) {
	if !tx.sharedIsOurs {
		tx.shared, tx.sharedIsOurs = maps.Clone(tx.shared), true
	}
	if len(owners) == 0 {
		delete(tx.shared, prefix)
		return
	}
	if tx.shared == nil {
		tx.shared = make(map[netip.Prefix][]V)
	}
	tx.shared[prefix] = owners
}

// activate makes owner the active one of a prefix that has an owner.
func (tx *Tx[V]) activate(prefix netip.Prefix, owner V) {
	if active, _ := tx.table.Get(prefix); active != owner {
		tx.put(prefix, owner)
	}
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

// count notes one more change, and makes the table private when there are many.
func (tx *Tx[V]) count() {
	if tx.changes++; tx.changes > maxInPlace && !tx.private {
		tx.table, tx.private = tx.table.Clone(), true
	}
}

func (tx *Tx[V]) put(prefix netip.Prefix, owner V) {
	tx.count()
	if tx.private {
		tx.table.Insert(prefix, owner)
	} else {
		tx.table = tx.table.InsertPersist(prefix, owner)
	}
}

func (tx *Tx[V]) delete(prefix netip.Prefix) {
	tx.count()
	if tx.private {
		tx.table.Delete(prefix)
	} else {
		tx.table = tx.table.DeletePersist(prefix)
	}
}

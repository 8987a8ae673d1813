// Package l3 implements cryptokey routing: which peer owns an inner IP address, and what the header
// of an IP packet says.
//
// One table answers both questions of the WireGuard whitepaper §2: the receiver of an outgoing
// packet is the owner of its destination, and an incoming packet is genuine only when its sender
// owns its source. Owners are compared after a look-up in the one table of all peers. Asking
// whether a peer's own list contains the source would accept addresses that belong to another
// peer's more specific prefix.
//
// Beyond WireGuard, several owners may share one prefix: two gateways of one site. One of them is
// active and gets what is sent there; packets with such a source are accepted from each of them,
// because a site chooses by itself through which of its gateways it answers.
//
// The package knows addresses and lengths. It does not parse transport headers, and it holds no
// peers: owners are any comparable value. Which of several is to be active is up to the caller.
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
// Lookup and Admits take no lock and may run beside Update. Updates are serialized; each is seen
// whole or not at all, and costs what it changes, whatever the size of the table.
type Table[V comparable] struct {
	mu      sync.Mutex           // serializes Update; not taken by readers
	owned   map[V][]netip.Prefix // what each owner has, alone or with others; guarded by mu
	current atomic.Pointer[snapshot[V]]
}

// snapshot is the table at one moment; it is not changed once it is published.
type snapshot[V comparable] struct {
	active *bart.Table[V] // of each prefix, the owner to whom packets are sent
	// All owners of the prefixes that have several, in the order in which they were given.
	shared map[netip.Prefix][]V
}

// Lookup returns the owner of the longest prefix that contains ip, the active one where several
// share it. An IPv4-mapped address is never found: the callers take addresses from IP headers,
// which do not hold such.
func (t *Table[V]) Lookup(ip netip.Addr) (owner V, ok bool) {
	cur := t.current.Load()
	if cur == nil {
		return owner, false
	}
	return cur.active.Lookup(ip)
}

// LookupSole is Lookup for prefixes that have one owner alone: one that several share, of which
// none is preferred, is not found.
func (t *Table[V]) LookupSole(ip netip.Addr) (owner V, ok bool) {
	cur := t.current.Load()
	if cur == nil {
		return owner, false
	}
	if len(cur.shared) == 0 {
		return cur.active.Lookup(ip)
	}
	prefix, owner, ok := cur.active.LookupPrefixLPM(netip.PrefixFrom(ip, ip.BitLen()))
	if _, several := cur.shared[prefix]; several {
		ok = false
	}
	return owner, ok
}

// Admits reports whether v owns the longest prefix that contains ip, alone or with others.
func (t *Table[V]) Admits(ip netip.Addr, v V) bool {
	cur := t.current.Load()
	if cur == nil {
		return false
	}
	owner, ok := cur.active.Lookup(ip)
	if !ok || owner == v || len(cur.shared) == 0 {
		return ok && owner == v
	}
	prefix, _, ok := cur.active.LookupPrefixLPM(netip.PrefixFrom(ip, ip.BitLen()))
	return ok && slices.Contains(cur.shared[prefix], v)
}

// Update calls change with a private version of the table and publishes it when change returns.
func (t *Table[V]) Update(change func(*Tx[V])) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owned == nil {
		t.owned = make(map[V][]netip.Prefix)
	}
	tx := &Tx[V]{owned: t.owned}
	if cur := t.current.Load(); cur != nil {
		tx.table, tx.shared = cur.active, cur.shared
	} else {
		tx.table, tx.private = new(bart.Table[V]), true
	}
	change(tx)
	t.current.Store(&snapshot[V]{active: tx.table, shared: tx.shared})
}

// All calls yield for every prefix and each of its owners, IPv4 before IPv6, each in ascending
// order, until it returns false.
func (t *Table[V]) All(yield func(netip.Prefix, V) bool) {
	cur := t.current.Load()
	if cur == nil {
		return
	}
	for p, v := range cur.active.AllSorted() {
		owners, several := cur.shared[p]
		if !several && !yield(p, v) {
			return
		}
		for _, owner := range owners {
			if !yield(p, owner) {
				return
			}
		}
	}
}

// Shared calls yield for every prefix that has several owners, with the active one, in no
// particular order, until it returns false. The owners are only to be read.
func (t *Table[V]) Shared(yield func(owners []V, active V) bool) {
	cur := t.current.Load()
	if cur == nil {
		return
	}
	for p, owners := range cur.shared {
		if active, _ := cur.active.Get(p); !yield(owners, active) {
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
	return cur.active.Size()
}

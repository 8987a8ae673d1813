package l2

import "net/netip"

// ChangeOp says what happened to an entry of the forwarding database.
type ChangeOp uint8

// What can happen to an entry.
const (
	ChangeLearned ChangeOp = iota + 1 // it was learned or pinned
	ChangeMoved                       // it moved from From to Port
	ChangeGone                        // it aged out, was evicted, or was removed
)

// Change is one change of the forwarding database.
type Change struct {
	Op   ChangeOp
	MAC  MAC
	VLAN uint16
	Port PortID
	From PortID // of ChangeMoved
}

// NeighborOp says what happened to the knowledge of which host has an IP address.
type NeighborOp uint8

// What can happen to it.
const (
	// The address is that of the host MAC.
	NeighborLearned NeighborOp = iota + 1
	// It is now that of MAC, and was that of Other, which is silent.
	NeighborMoved
	// The host MAC has not shown it for long, or is gone itself.
	NeighborGone
	// The hosts MAC and Other both use it.
	NeighborDisputed
)

// NeighborChange is one change of which host has an IP address, as ARP and neighbour discovery
// show it.
type NeighborChange struct {
	Op    NeighborOp
	IP    netip.Addr
	VLAN  uint16
	MAC   MAC
	Port  PortID // where MAC was last seen to use the address
	Other MAC    // of NeighborMoved and NeighborDisputed
}

// maxChanges is how many changes of each table are remembered between two ticks: those of several
// ports that go down at once. They take 24 and 48 bytes each.
const maxChanges = 4096

// changes are those of one table since the last tick. The table's mu guards it.
type changes[T any] struct {
	list []T
	lost int // that found no room
}

func (c *changes[T]) add(change T) {
	if len(c.list) >= maxChanges {
		c.lost++
		return
	}
	c.list = append(c.list, change)
}

// takeChanges returns what changed since the last call, and how many changes were not remembered.
func (t *fdb) takeChanges() ([]Change, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changes.take()
}

// take returns what add was given since the last call, and how many found no room.
func (c *changes[T]) take() ([]T, int) {
	list, lost := c.list, c.lost
	*c = changes[T]{}
	return list, lost
}

// takeChanges returns what changed since the last call, and how many changes were not remembered.
func (t *neighbors) takeChanges() ([]NeighborChange, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changes.take()
}

// changed notes what happened to the binding of key. mu is held.
func (t *neighbors) changed(op NeighborOp, key neighborKey, b *binding, other MAC) {
	t.changes.add(NeighborChange{op, netip.AddrFrom16(key.ip).Unmap(), key.vid, b.mac, b.port, other})
}

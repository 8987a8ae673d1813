package route

import "fmt"

// object is one thing in the kernel that is there or not. Implementations are comparable values,
// so that the desired and the actual state are sets. Adding a kind of object takes its methods
// here and a place in plan.go or diff.go where it is wanted.
type object interface {
	fmt.Stringer // what ip(8) calls it

	// rank is the order of adding; removal goes the other way. A bridge comes before its port, a
	// link up before its routes, the guard before traffic is led into the tunnel, the rules last,
	// and the tunnel's own rule after the exceptions from it.
	rank() int

	// present reports whether the object is there exactly as wanted.
	present(f facts, instance string) bool

	// add makes the object be there. An error of EEXIST says that something of somebody else is in
	// its place; an MTU, a master and a guard replace the old value instead.
	add(k *netlinkKernel, instance string) error

	// remove undoes add: a link goes down, leaves its bridge, a sysctl returns to 0. For an object
	// that is not there it returns an error for which gone reports true.
	remove(k *netlinkKernel, instance string) error
}

// The ranks of objects.
const (
	rankBridge = iota
	rankMTU
	rankMaster
	rankUp
	rankAddr
	rankGuard
	rankSysctl
	rankRoute
	rankRule
	rankTunnelRule
)

// What follows are methods that only some objects have.

// advisor is an object that knows the next step for an operator when it could not be added.
type advisor interface {
	// advice returns that step, "" when there is nothing to say.
	advice(err error) string
}

// optional is an object without which the State works, if not as well.
type optional interface {
	// tolerates reports whether the failure to add the object is not an error, and the warning that
	// it is then, "" when nothing is lost.
	tolerates(err error, f facts) (warning string, ok bool)
}

// remembered is an object of which a Manager has to remember that it added or removed it.
type remembered interface {
	added(m *memory, f facts)
	removed(m *memory)
}

// fencing is an object that can keep traffic from leaving in the clear while the device is missing.
type fencing interface{ fences() bool }

// yielding is an object that Watch does not always put back.
type yielding interface {
	// restorable reports whether to put the object back. What an operator does by hand with a
	// link is respected: it is not set up again, nor fetched back from another bridge, and keeps
	// its MTU.
	restorable(f facts) bool
}

// movable is an object that the kernel can replace atomically.
type movable interface {
	// moves reports whether an object of ours with the same key is there in its place.
	moves(f facts, m memory) bool
}

// exclusive is an object that cannot be there together with some other.
type exclusive interface {
	// excludes reports whether other has to go first.
	excludes(other object) bool
}

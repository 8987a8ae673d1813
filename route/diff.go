package route

import (
	"cmp"
	"slices"

	"tund/route/mark"
	"tund/route/refused"
	"tund/route/sysctl"
)

// action is what a change does to its object.
type action string

const (
	doAdd     action = "add"
	doReplace action = "change"
	doRemove  action = refused.Remove
)

// change is one step from the facts to the plan. It is comparable, to remember which steps failed.
type change struct {
	do action
	o  object
}

func (c change) String() string { return string(c.do) + " " + c.o.String() }

// memory is what a Manager remembers because the kernel cannot say it.
type memory struct {
	owned   map[object]bool // bridges joined, links set up, addresses: added by us
	devices map[string]bool // every device of every State
	mtu     map[string]int  // device to the MTU it had before us
	said    map[string]bool // device to whether the last State with it said an MTU
	foreign map[string]bool // bridge that a device wants to whether others made it
	restore sysctl.Set      // that were off before us
}

func newMemory() memory {
	return memory{
		owned: make(map[object]bool), devices: make(map[string]bool), mtu: make(map[string]int),
		said: make(map[string]bool), foreign: make(map[string]bool),
	}
}

// diff returns the changes that lead from f to want: adds by rank, then removals the other way
// round, so that nothing is ever missing in between. Both orders are total, for readable logs and
// golden tests.
func diff(instance string, want []object, f facts, m memory) []change {
	wanted := make(map[object]bool, len(want))
	for _, o := range want {
		wanted[o] = true
	}
	surplus := surplusObjects(instance, wanted, f, m)
	var changes []change
	early := make(map[object]bool)
	for _, o := range want {
		if o.present(f, instance) {
			continue
		}
		c := change{doAdd, o}
		if r, ok := o.(movable); ok && r.moves(f, m) {
			c.do = doReplace
		}
		if e, ok := o.(exclusive); ok {
			for _, old := range surplus {
				if e.excludes(old) && !early[old] {
					early[old] = true
					changes = append(changes, change{doRemove, old})
				}
			}
		}
		changes = append(changes, c)
	}
	for _, o := range surplus {
		if !early[o] {
			changes = append(changes, removal(instance, o, f))
		}
	}
	return changes
}

// removal is the change that gets rid of o. A setting is left alone while another instance needs
// it: that instance inherits the duty.
func removal(instance string, o object, f facts) change {
	if s, ok := o.(sysctlObject); ok {
		var heirs []string
		for other, g := range f.guards {
			if other != instance && g.uses.Has(s.setting) {
				heirs = append(heirs, other)
			}
		}
		if len(heirs) > 0 {
			return change{doAdd, restoreObject{slices.Min(heirs), s.setting}}
		}
	}
	return change{doRemove, o}
}

// surplusObjects returns what is ours in f but not wanted, in order of removal.
func surplusObjects(instance string, wanted map[object]bool, f facts, m memory) []object {
	table := mark.Table(instance)
	var surplus []object
	leave := func(o object) {
		if !wanted[o] {
			surplus = append(surplus, o)
		}
	}
	for o := range m.owned {
		if _, made := o.(bridgeObject); !made && o.present(f, instance) && !superseded(o, wanted) {
			leave(o)
		}
	}
	for o := range f.routes {
		if m.devices[o.dev] || o.table == table || o.dev == "" && o.metric == mark.GuardMetric(instance) {
			leave(o)
		}
	}
	for o := range f.rules {
		if o.table == table || o.owner == table {
			leave(o)
		}
	}
	surplus = append(surplus, surplusGuard(instance, wanted, f, m)...)
	surplus = append(surplus, surplusBridges(instance, wanted, f, surplus)...)
	slices.SortFunc(surplus, func(a, b object) int {
		return cmp.Or(cmp.Compare(b.rank(), a.rank()), cmp.Compare(a.String(), b.String()))
	})
	return surplus
}

// superseded reports whether adding another object removes o by itself.
func superseded(o object, wanted map[object]bool) bool {
	port, ok := o.(masterObject)
	if !ok {
		return false
	}
	for w := range wanted {
		if other, ok := w.(masterObject); ok && other.dev == port.dev {
			return true
		}
	}
	return false
}

func surplusGuard(instance string, wanted map[object]bool, f facts, m memory) []object {
	var surplus []object
	guarded := false
	for o := range wanted {
		if _, ok := o.(guardObject); ok {
			guarded = true
		}
	}
	found, ok := f.guards[instance]
	if ok && !guarded {
		surplus = append(surplus, guardObject{fence: found.fence, restore: found.restore})
	}
	for _, s := range duty(instance, f, m).List() {
		if o := (sysctlObject{s}); f.sysctls[s] && !wanted[o] {
			surplus = append(surplus, o)
		}
	}
	return surplus
}

// surplusBridges returns the bridges to delete: those that this instance made and no longer
// wants, and those that any instance made and our port has just left; in both cases only when no
// other port remains.
func surplusBridges(instance string, wanted map[object]bool, f facts, leaving []object) []object {
	left := make(map[masterObject]bool)
	for _, o := range leaving {
		if port, ok := o.(masterObject); ok {
			left[port] = true
		}
	}
	var surplus []object
	for name, l := range f.links {
		ours := l.group == mark.Group(instance)
		inherited := mark.IsGroup(l.group) && slices.ContainsFunc(leaving, func(o object) bool {
			port, ok := o.(masterObject)
			return ok && port.bridge == name
		})
		if !l.bridge || !ours && !inherited || wanted[bridgeObject{name}] {
			continue
		}
		others := slices.DeleteFunc(f.ports(name),
			func(port string) bool { return left[masterObject{port, name}] })
		if len(others) == 0 {
			surplus = append(surplus, bridgeObject{name})
		}
	}
	return surplus
}

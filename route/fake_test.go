package route

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tund/route/mark"
	"tund/route/path"
	"tund/route/sysctl"
)

// fakeKernel is a model of Linux as far as this package goes, with the side effects that make
// diffs hard: removing an address takes its secondaries along, a link going down takes its
// routes, a small MTU takes IPv6.
type fakeKernel struct {
	mu sync.Mutex // guards all; a test that has a Watch running takes it by locked
	facts
	// Addresses in order of adding: the first of a network is its primary.
	order   []addrObject
	foreign map[routeObject]bool // routes of other protocols, dev "" for any

	whole int // times that everything was read
	log   []string
	fail  func(step int, c change) error // nil: never
	step  int
}

// newFake returns a kernel with a TUN, a TAP, an Ethernet device and a bridge of somebody else.
func newFake() *fakeKernel {
	k := &fakeKernel{
		facts: facts{
			links: make(map[string]link), addrs: make(map[addrObject]bool), routes: make(map[routeObject]bool),
			rules: make(map[ruleObject]bool), guards: make(map[string]guardFact),
			sysctls: map[sysctl.Setting]bool{sysctl.SrcValidMark: false, sysctl.Forward4: false, sysctl.Forward6: false, sysctl.AcceptRA("eth0"): false},
		},
		foreign: make(map[routeObject]bool),
	}
	for i, name := range []string{"lo", "eth0", "office", "office-tap", "br-other"} {
		k.links[name] = link{name: name, index: i + 1, mtu: 1500, up: name == "lo" || name == "eth0", bridge: name == "br-other"}
	}
	return k
}

// locked runs f while no request is in progress.
func (k *fakeKernel) locked(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

func (k *fakeKernel) read() (facts, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.whole++
	f := k.facts
	f.links, f.addrs, f.routes = maps.Clone(k.links), maps.Clone(k.addrs), maps.Clone(k.routes)
	f.rules, f.guards, f.sysctls = maps.Clone(k.rules), maps.Clone(k.guards), maps.Clone(k.sysctls)
	return f, nil
}

// reads returns how often everything was read.
func (k *fakeKernel) reads() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.whole
}

func (k *fakeKernel) readLocal() (facts, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := newFacts()
	f.links, f.addrs = maps.Clone(k.links), maps.Clone(k.addrs)
	return f, nil
}

func (k *fakeKernel) addresses() ([]netip.Addr, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []netip.Addr
	for _, o := range k.order {
		list = append(list, o.addr.Addr())
	}
	return list, nil
}

func (k *fakeKernel) close() error { return nil }

func (k *fakeKernel) Hop(netip.Addr, uint32, string) (path.Hop, error) {
	return path.Hop{Dev: "eth0", MTU: 1500}, nil
}

func (k *fakeKernel) through(string) ([]path.Via, error) { return nil, nil }

func (k *fakeKernel) Departure(_, _ netip.Addr, _ uint32, _ string) (int, error) { return 1, nil }

// refused logs a step and reports the injected failure, if any.
func (k *fakeKernel) refused(c change) error {
	k.step++
	if k.fail != nil {
		if err := k.fail(k.step, c); err != nil {
			k.log = append(k.log, c.String()+": "+err.Error())
			return err
		}
	}
	k.log = append(k.log, c.String())
	return nil
}

func (k *fakeKernel) add(instance string, o object) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refused(change{doAdd, o}); err != nil {
		return err
	}
	switch o := o.(type) {
	case bridgeObject:
		if _, exists := k.links[o.name]; exists {
			return unix.EEXIST
		}
		k.links[o.name] = link{name: o.name, index: 100 + k.step, mtu: 1500, up: true, bridge: true, group: mark.Group(instance)}
		return nil
	case mtuObject:
		return k.setLink(o.dev, func(l *link) { l.mtu = o.mtu })
	case masterObject:
		if !k.links[o.bridge].bridge {
			return unix.EINVAL
		}
		return k.setLink(o.dev, func(l *link) { l.master = o.bridge })
	case upObject:
		return k.setLink(o.dev, func(l *link) { l.up = true })
	case addrObject:
		return k.addAddr(o)
	case guardObject:
		k.guards[instance] = guardFact{digest: o.digest(), fence: o.fence, uses: o.uses, restore: o.restore}
		return nil
	case restoreObject:
		g, ok := k.guards[o.heir]
		if !ok {
			return unix.ENOENT
		}
		g.restore = g.restore.With(o.setting)
		k.guards[o.heir] = g
		return nil
	case sysctlObject:
		k.sysctls[o.setting] = true
		return nil
	case routeObject:
		return k.addRoute(o)
	case ruleObject:
		for other := range k.rules { // fib4_rule_compare ignores what the new rule does not name
			if other.to = (netip.Prefix{}); other == o {
				return unix.EEXIST
			}
		}
		return insert(k.rules, o)
	}
	panic("unknown object")
}

func (k *fakeKernel) setLink(name string, set func(*link)) error {
	l, ok := k.links[name]
	if !ok {
		return unix.ENODEV
	}
	set(&l)
	k.links[name] = l
	v6gone := func(p netip.Prefix) bool { return p.Addr().Is6() && l.mtu < 1280 }
	for o := range k.addrs {
		if o.dev == name && v6gone(o.addr) {
			k.dropAddr(o)
		}
	}
	for o := range k.routes {
		if o.dev == name && (!l.up || v6gone(o.dst)) {
			delete(k.routes, o)
		}
	}
	return nil
}

func (k *fakeKernel) addAddr(o addrObject) error {
	l, ok := k.links[o.dev]
	if !ok {
		return unix.ENODEV
	}
	if o.addr.Addr().Is6() {
		if l.mtu < 1280 {
			return unix.EINVAL
		}
		for other := range k.addrs {
			if other.dev == o.dev && other.addr.Addr() == o.addr.Addr() {
				return unix.EEXIST
			}
		}
	}
	k.order = append(k.order, o)
	return insert(k.addrs, o)
}

func (k *fakeKernel) dropAddr(o addrObject) {
	delete(k.addrs, o)
	k.order = slices.DeleteFunc(k.order, func(other addrObject) bool { return other == o })
}

func (k *fakeKernel) addRoute(o routeObject) error {
	if l, ok := k.links[o.dev]; o.dev == "" {
		return insert(k.routes, o) // unreachable
	} else if !ok {
		return unix.ENODEV
	} else if !l.up {
		return unix.ENETDOWN
	}
	key := o
	key.dev = ""
	if k.foreign[key] {
		return unix.EEXIST
	}
	for other := range k.routes {
		if other.dev = ""; other == key {
			return unix.EEXIST
		}
	}
	return insert(k.routes, o)
}

func insert[O comparable](set map[O]bool, o O) error {
	if set[o] {
		return unix.EEXIST
	}
	set[o] = true
	return nil
}

func (k *fakeKernel) replace(o routeObject) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refused(change{doReplace, o}); err != nil {
		return err
	}
	for other := range k.routes {
		if other.dst == o.dst && other.table == o.table && other.metric == o.metric {
			delete(k.routes, other)
		}
	}
	return insert(k.routes, o)
}

func (k *fakeKernel) remove(instance string, o object) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refused(change{doRemove, o}); err != nil {
		return err
	}
	switch o := o.(type) {
	case bridgeObject:
		for name, l := range k.links {
			if l.master == o.name {
				l.master = ""
				k.links[name] = l
			}
		}
		return take(k.links, o.name, unix.ENODEV)
	case masterObject:
		return k.setLink(o.dev, func(l *link) { l.master = "" })
	case upObject:
		return k.setLink(o.dev, func(l *link) { l.up = false })
	case addrObject:
		if !k.addrs[o] {
			return unix.EADDRNOTAVAIL
		}
		k.dropSecondaries(o)
		k.dropAddr(o)
		return nil
	case guardObject:
		return take(k.guards, instance, unix.ENOENT)
	case sysctlObject:
		k.sysctls[o.setting] = false
		return nil
	case routeObject:
		return take(k.routes, o, unix.ESRCH)
	case ruleObject:
		return take(k.rules, o, unix.ENOENT)
	}
	panic("never removed")
}

// dropSecondaries removes the other IPv4 addresses of a network whose primary goes.
func (k *fakeKernel) dropSecondaries(o addrObject) {
	same := func(other addrObject) bool { return other.dev == o.dev && other.addr.Masked() == o.addr.Masked() }
	if o.addr.Addr().Is6() || k.order[slices.IndexFunc(k.order, same)] != o {
		return
	}
	for _, other := range slices.Clone(k.order) {
		if other != o && same(other) {
			k.dropAddr(other)
		}
	}
}

func take[K comparable, V any](set map[K]V, key K, missing error) error {
	if _, ok := set[key]; !ok {
		return missing
	}
	delete(set, key)
	return nil
}

// text renders everything but link indices, sorted.
func (k *fakeKernel) text(t *testing.T) string {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	return factsText(k.facts)
}

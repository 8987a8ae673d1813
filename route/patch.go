package route

import (
	"net/netip"
	"slices"
)

// Patch adds routes to a device of the State applied last and removes others, and leaves everything
// else as it is. Unlike Apply it does not read the kernel's routes, so its cost depends on the
// number of routes that change, whatever the number of those that stay. Routes that the State has
// already, or has not when they are to be removed, are passed over; each is given once.
//
// False means that the change needs Apply with the whole State: for a default route, for a network
// that the host itself is in, without the device, or because the kernel refused something. A part
// of the change may have been made then.
func (m *Manager) Patch(device string, add, remove []Route) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.IndexFunc(m.state.Devices, func(d Device) bool { return d.Name == device })
	// Beside a full tunnel, routes of another device are in its table, too.
	if m.closed || at < 0 || m.fullTunnel && len(m.state.Devices) > 1 {
		return false
	}
	f, err := m.k.readLocal()
	if err != nil {
		return false
	}
	add = slices.DeleteFunc(slices.Clone(add), func(r Route) bool { return m.has(at, r) })
	remove = slices.DeleteFunc(slices.Clone(remove), func(r Route) bool { return !m.has(at, r) })
	added, ok := m.plain(at, add, f)
	if !ok {
		return false
	}
	removed, ok := m.plain(at, remove, f)
	if !ok {
		return false
	}
	for _, o := range added {
		if m.change(change{doAdd, o}, f) != nil {
			return false
		}
	}
	for _, o := range removed {
		m.ours.Expect()
		if m.change(change{doRemove, o}, f) != nil {
			return false
		}
	}
	m.noteRoutes(at, add, remove)
	return true
}

// plain returns the objects of some routes of a device. False: they depend on something else in the
// kernel, or something else on them. Callers hold mu.
func (m *Manager) plain(at int, routes []Route, f facts) ([]routeObject, bool) {
	d := m.state.Devices[at]
	d.Routes = routes
	s := State{Devices: []Device{d}, FwMark: m.state.FwMark, LocalNetworks: m.state.LocalNetworks, Guard: m.state.Guard}
	if hasPolicy(d) || s.validate() != nil {
		return nil, false
	}
	p := newPlan(m.instance, s, 0, f, m.memory) // without a default route no mark is needed
	if len(p.missing) > 0 || len(p.host.rivals) > 0 {
		return nil, false
	}
	var objects []routeObject
	for _, o := range p.want {
		if r, ok := o.(routeObject); ok {
			objects = append(objects, r)
		}
	}
	return objects, true
}

// has reports whether the State has a route for a device. Callers hold mu.
func (m *Manager) has(at int, r Route) bool {
	_, there := slices.BinarySearchFunc(m.state.Devices[at].Routes, r, Route.compare)
	return there
}

// noteRoutes changes the routes of a device in the State. Callers hold mu.
func (m *Manager) noteRoutes(at int, add, remove []Route) {
	d := &m.state.Devices[at]
	if len(add)+len(remove) <= fewRoutes {
		for _, r := range add {
			i, _ := slices.BinarySearchFunc(d.Routes, r, Route.compare)
			d.Routes = slices.Insert(d.Routes, i, r)
		}
		for _, r := range remove {
			if i, there := slices.BinarySearchFunc(d.Routes, r, Route.compare); there {
				d.Routes = slices.Delete(d.Routes, i, i+1)
			}
		}
		return
	}
	gone := make(map[Route]bool, len(remove))
	for _, r := range remove {
		gone[r] = true
	}
	d.Routes = slices.DeleteFunc(append(d.Routes, add...), func(r Route) bool { return gone[r] })
	m.state.sort()
}

// fewRoutes is how many routes are put in order one by one, each of which moves those behind it.
const fewRoutes = 16

// routed reports whether a route of the State leads to a network by the main table.
func (m *Manager) routed(network netip.Prefix) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.state.Devices {
		i, _ := slices.BinarySearchFunc(d.Routes, Route{Dst: network}, Route.compare)
		for ; i < len(d.Routes) && d.Routes[i].Dst == network; i++ {
			if d.Routes[i].inMain() {
				return true
			}
		}
	}
	return false
}

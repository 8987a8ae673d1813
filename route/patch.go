package route

import (
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
	m.indexRoutes(device)
	add = slices.DeleteFunc(slices.Clone(add), func(r Route) bool { _, there := m.routeAt[r]; return there })
	remove = slices.DeleteFunc(slices.Clone(remove), func(r Route) bool { _, there := m.routeAt[r]; return !there })
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
// kernel, or something else on them. mu is held.
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

// indexRoutes makes routeAt tell where the routes of a device are in the State. mu is held.
func (m *Manager) indexRoutes(device string) {
	if m.routeAt != nil && m.indexed == device {
		return
	}
	m.routeAt, m.indexed = make(map[Route]int), device
	for _, d := range m.state.Devices {
		if d.Name == device {
			for i, r := range d.Routes {
				m.routeAt[r] = i
			}
		}
	}
}

// noteRoutes changes the routes of a device in the State. mu is held, and indexRoutes was called.
func (m *Manager) noteRoutes(at int, add, remove []Route) {
	d := &m.state.Devices[at]
	for _, r := range add {
		m.routeAt[r] = len(d.Routes)
		d.Routes = append(d.Routes, r)
		m.host.noteRoute(r, true)
	}
	for _, r := range remove {
		i := m.routeAt[r]
		last := len(d.Routes) - 1
		d.Routes[i] = d.Routes[last]
		m.routeAt[d.Routes[i]] = i
		d.Routes = d.Routes[:last]
		delete(m.routeAt, r)
		m.host.noteRoute(r, false)
	}
}

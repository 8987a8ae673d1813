package route

import (
	"slices"

	"golang.org/x/sys/unix"

	"tund/route/mark"
	"tund/route/path"
	"tund/route/sysctl"
)

// applied compares the plan with the facts and returns what is there. Callers hold mu.
func (m *Manager) applied(p plan, f facts) Applied {
	a := Applied{Warnings: p.warnings}
	a.LocalNetworks, a.Guard = m.state.LocalNetworks, m.state.Guard
	a.Forward = m.state.Forward && f.sysctls[sysctl.Forward4]
	if f.guards[m.instance].digest != "" {
		a.Masquerade = m.state.Masquerade
	}
	a.FwMark = m.Mark(m.state)
	table := mark.Table(m.instance)
	for _, d := range m.state.Devices {
		l, ok := f.links[d.Name]
		if !ok {
			continue
		}
		got := Device{Name: d.Name, MTU: l.mtu, Up: l.up}
		if d.Bridge != "" && l.master == d.Bridge {
			got.Bridge = d.Bridge
		}
		for _, addr := range d.Addrs {
			if f.addrs[addrObject{d.Name, addr}] {
				got.Addrs = append(got.Addrs, addr)
			}
		}
		for _, r := range d.Routes {
			if reached, there := m.reached(d, r, l, f); there {
				got.Routes = append(got.Routes, reached)
			}
		}
		a.Devices = append(a.Devices, got)
	}
	for o := range f.rules {
		if o.table == table && o.priority == mark.PriorityTunnel {
			a.FullTunnel4 = a.FullTunnel4 || !o.v6
			a.FullTunnel6 = a.FullTunnel6 || o.v6
		}
	}
	for name, l := range f.links {
		if l.bridge && l.group == mark.Group(m.instance) {
			a.BridgesMade = append(a.BridgesMade, name)
		}
	}
	slices.Sort(a.BridgesMade)
	return a
}

// reached returns the route as the kernel has it.
func (m *Manager) reached(d Device, r Route, l link, f facts) (Route, bool) {
	if r.Table == 0 && !r.policy() && connected(d, r.Dst) {
		return r, l.up
	}
	o := routeObject{d.Name, r.Dst, r.Table, path.StoredMetric(r.Dst, min(r.Metric, mark.MaxMetric))}
	if r.policy() {
		o.table, r.Table = mark.Table(m.instance), mark.Table(m.instance)
	} else if r.Table == 0 {
		o.table = unix.RT_TABLE_MAIN
	}
	return r, f.routes[o]
}

package route

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tund/route/mark"
	"tund/route/path"
	"tund/route/sysctl"
)

// This file and diff.go are the pure half of the package: from a desired State and facts to
// objects, and from objects to changes. They touch no kernel.

// plan is what a State means in objects.
type plan struct {
	want     []object // by rank; no object twice
	missing  []string // devices of the State that do not exist
	warnings []string
	host     hostView // what of the host the plan depends on
}

// planner collects the objects of one plan.
type planner struct {
	plan
	instance string
	state    State
	facts    facts
	mark     uint32
	v4, v6   bool       // full tunnel
	restore  sysctl.Set // that were off before us, as known so far
	seen     map[object]bool
	mtu      map[string]int // that devices had before us
}

// newPlan turns s into objects. It depends on the facts in four places: devices that do not exist
// are left out, an existing bridge of somebody else is joined but not made, a network of the host
// is not led into the tunnel, and the guard keeps the memory of the sysctl's old value.
func newPlan(instance string, s State, mark uint32, f facts, m memory) plan {
	p := &planner{instance: instance, state: s, facts: f, mark: mark, seen: make(map[object]bool), mtu: m.mtu}
	p.host = newHostView(s, f)
	if n := len(p.host.neighbors); n > maxNeighbors {
		p.host.neighbors = p.host.neighbors[:maxNeighbors]
		p.warnings = append(p.warnings, fmt.Sprintf("this host is in %d networks, too many for a full "+
			"tunnel to let each be reached: hosts in %d of them get no answer", n, n-maxNeighbors))
	}
	p.restore = duty(instance, f, m)
	p.v4, p.v6 = s.FullTunnel()
	for _, d := range s.Devices {
		p.guard(d)
		if _, ok := f.links[d.Name]; !ok {
			p.missing = append(p.missing, d.Name)
			continue
		}
		p.device(d)
	}
	p.policy()
	p.table()
	slices.SortStableFunc(p.want, func(a, b object) int { return cmp.Compare(a.rank(), b.rank()) })
	return p.plan
}

func (p *planner) add(o object) {
	if !p.seen[o] {
		p.seen[o] = true
		p.want = append(p.want, o)
	}
}

func (p *planner) device(d Device) {
	if d.Bridge != "" {
		p.bridge(d)
	}
	if mtu := p.mtuFor(d); mtu != 0 {
		p.add(mtuObject{d.Name, mtu})
	}
	if d.Up {
		p.add(upObject{d.Name})
	}
	for _, a := range d.Addrs {
		p.add(addrObject{d.Name, a})
	}
	for _, r := range d.Routes {
		for _, o := range p.routes(d, r) {
			p.add(o)
		}
	}
	p.intoTable(d)
}

// mtuFor returns the MTU for a device; 0: it has its own. A port of a bridge takes the smallest MTU
// of the other ports: the bridge, if nobody has given it an MTU, has the smallest of all, and that
// may be the one that this port had before.
func (p *planner) mtuFor(d Device) int {
	bridge, least := p.facts.links[d.Bridge].mtu, 0
	if d.MTU != 0 || bridge == 0 {
		return cmp.Or(d.MTU, p.mtu[d.Name])
	}
	for _, port := range p.facts.ports(d.Bridge) {
		if mtu := p.facts.links[port].mtu; port != d.Name && (least == 0 || mtu < least) {
			least = mtu
		}
	}
	return max(least, bridge)
}

func (p *planner) bridge(d Device) {
	switch br, ok := p.facts.links[d.Bridge]; {
	case !ok:
		p.add(bridgeObject{d.Bridge})
	case br.bridge && br.group == mark.Group(p.instance):
		p.add(bridgeObject{d.Bridge})
		p.add(upObject{d.Bridge})
	case br.bridge && !br.up:
		p.warnings = append(p.warnings, fmt.Sprintf("bridge %s is down, and tund did not make it: ip link set %s up", d.Bridge, d.Bridge))
	}
	p.add(masterObject{d.Name, d.Bridge})
}

// routes returns the object of a route, or none when the kernel makes the route itself.
func (p *planner) routes(d Device, r Route) []object {
	o := routeObject{dev: d.Name, dst: r.Dst, table: r.Table, metric: r.Metric}
	switch {
	case r.policy():
		o.table = mark.Table(p.instance)
	case r.Table == 0:
		o.table = unix.RT_TABLE_MAIN
		if connected(d, r.Dst) || p.yields(r) {
			return nil
		}
	}
	o.metric = path.StoredMetric(r.Dst, min(r.Metric, mark.MaxMetric))
	return []object{o}
}

// guard adds the unreachable routes behind those of a device. They do not depend on whether the
// device is there, because that is when they are needed.
func (p *planner) guard(d Device) {
	if p.state.Guard == GuardOff {
		return
	}
	for _, r := range d.Routes {
		if !r.policy() {
			p.add(guardRoute(p.instance, r))
		}
	}
}

// connected reports whether the kernel makes a route to dst from one of d's addresses.
func connected(d Device, dst netip.Prefix) bool {
	return slices.ContainsFunc(d.Addrs, func(a netip.Prefix) bool { return a.Masked() == dst })
}

// intoTable repeats the networks and routes of a device beside the tunnel (a TAP) in the instance's
// own table: a full tunnel consults main for private destinations only.
func (p *planner) intoTable(d Device) {
	if hasPolicy(d) {
		return
	}
	repeat := func(dst netip.Prefix, metric uint32) {
		if dst.Bits() > 0 && (dst.Addr().Is4() && p.v4 || dst.Addr().Is6() && p.v6) {
			p.add(routeObject{d.Name, dst, mark.Table(p.instance), path.StoredMetric(dst, metric)})
		}
	}
	for _, a := range d.Addrs {
		if a.Bits() < a.Addr().BitLen() {
			repeat(a.Masked(), 0)
		}
	}
	for _, r := range d.Routes {
		if r.Table == 0 {
			repeat(r.Dst, r.Metric)
		}
	}
}

func hasPolicy(d Device) bool { return slices.ContainsFunc(d.Routes, Route.policy) }

// policy adds what a full tunnel needs beside its routes.
func (p *planner) policy() {
	if !p.v4 && !p.v6 {
		return
	}
	for _, v6 := range []bool{false, true} {
		if v6 && p.v6 || !v6 && p.v4 {
			if p.state.Guard != GuardOff {
				p.add(fence(p.instance, v6))
			}
			for _, o := range p.rules(v6) {
				p.add(o)
			}
		}
	}
}

// table adds the nftables table, when there is something for it to hold, and the settings.
func (p *planner) table() {
	o := guardObject{masquerade: p.state.Masquerade}
	for _, s := range p.settings() {
		p.add(sysctlObject{s})
		o.uses = o.uses.With(s)
		if p.restore.Has(s) || !p.facts.sysctls[s] {
			o.restore = o.restore.With(s)
		}
	}
	if p.v4 || p.v6 {
		var protect []string
		for _, d := range p.state.Devices {
			if hasPolicy(d) {
				for _, a := range d.Addrs {
					protect = append(protect, d.Name+" "+a.Addr().String()+"\n")
				}
			}
		}
		slices.Sort(protect)
		o.fence, o.mark, o.protect = true, p.mark, strings.Join(slices.Compact(protect), "")
	}
	if o == (guardObject{}) {
		return
	}
	for _, s := range p.restore.List() {
		if p.facts.sysctls[s] { // not needed any more, and not yet restored
			o.restore = o.restore.With(s)
		}
	}
	p.add(o)
}

// settings returns the settings that the State needs and the kernel has. A link that has its
// default route from router advertisements goes on accepting them when the host begins to forward.
func (p *planner) settings() []sysctl.Setting {
	var list []sysctl.Setting
	need := func(s sysctl.Setting) {
		if _, there := p.facts.sysctls[s]; there {
			list = append(list, s)
		}
	}
	if p.v4 {
		need(sysctl.SrcValidMark)
	}
	if !p.state.Forward {
		return list
	}
	need(sysctl.Forward4)
	for s := range p.facts.sysctls {
		if s.Link() != "" && (!p.facts.sysctls[s] || p.restore.Has(s)) {
			need(s)
		}
	}
	slices.Sort(list) // before the setting that would make them lose the route
	need(sysctl.Forward6)
	return list
}

// rules returns the policy rules of one address family.
func (p *planner) rules(v6 bool) []object {
	table := mark.Table(p.instance)
	local := ruleObject{v6: v6, priority: mark.PriorityLocal, table: unix.RT_TABLE_MAIN, owner: table}
	var rules []object
	for _, network := range p.host.neighbors {
		if network.Addr().Is6() == v6 {
			rules = append(rules, ruleObject{
				v6: v6, priority: mark.PriorityNeighbor, from: network, to: network,
				table: unix.RT_TABLE_MAIN, owner: table,
			})
		}
	}
	switch p.state.LocalNetworks {
	case LocalPrivate:
		for _, to := range path.PrivateDestinations(v6) {
			local.to = to
			rules = append(rules, local)
		}
	case LocalAll:
		local.priority = mark.PriorityLocalAll
		rules = append(rules, local)
	}
	return append(rules, ruleObject{v6: v6, priority: mark.PriorityTunnel, mark: p.mark, table: table})
}

package l2

import (
	"fmt"
	"reflect"
	"slices"
)

// SetPorts adds ports or changes their configuration, and removes others, in one step: either
// completely or, if it returns an error, not at all. Sessions, learned entries and counters of the
// remaining ports are kept. A port whose configuration does not change is not touched, and its peer
// is sent nothing. It returns an error for id 0 or one above MaxPortID, and for a MAC that would be
// pinned to two ports. set and remove are not retained, nor are their slices.
func (s *Switch) SetPorts(set map[PortID]PortConfig, remove []PortID) error {
	for id := range set {
		if id == LocalPort || id > MaxPortID {
			return fmt.Errorf("port %d is not between 1 and %d", id, MaxPortID)
		}
	}
	changed, gone, err := s.changePorts(set, remove)
	if err != nil {
		return err
	}
	for _, id := range gone {
		s.forget(id, true)
	}
	view := s.view.Load()
	for id, cfg := range changed {
		limit := view.cfg.MaxPerPort
		if cfg.MaxMACs > 0 {
			limit = cfg.MaxMACs
		}
		s.fdb.setLimit(id, limit, cfg.MaxMACs > 0)
	}
	if len(changed) > 0 {
		s.fdb.flush(func(e *Entry) bool { return view.contradicts(e, changed) })
	}
	return nil
}

// changePorts is SetPorts without the consequences for the tables. It returns what it changed.
func (s *Switch) changePorts(set map[PortID]PortConfig, remove []PortID) (changed map[PortID]PortConfig, gone []PortID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leaves := make(map[PortID]bool, len(remove))
	for _, id := range remove {
		if _, there := s.ports[id]; there && !leaves[id] {
			leaves[id] = true
			gone = append(gone, id)
		}
	}
	changed = make(map[PortID]PortConfig)
	for id, cfg := range set {
		cfg = cfg.clone()
		if p := s.ports[id]; p == nil || leaves[id] || !reflect.DeepEqual(p.cfg, cfg) {
			changed[id] = cfg
		}
	}
	if len(changed)+len(gone) == 0 {
		return nil, nil, nil
	}
	s.watchAt = dueNow
	pins := s.changesPins(changed, gone)
	if pins {
		if err := s.checkPins(changed, leaves); err != nil {
			return nil, nil, err
		}
	}
	for _, id := range gone {
		s.unblockFor(id, 0)
		delete(s.ports, id)
	}
	for id, cfg := range changed {
		p := s.ports[id]
		if p == nil {
			p = &slowPort{state: &portState{shares: newShares(remoteSlots)}, key: s.derive("tag of a peer")}
			s.ports[id] = p
		}
		p.cfg = cfg
		if p.up {
			p.helloAt, p.tries = dueNow, 0 // inform the peer of the change
		}
	}
	if pins || len(changed)+len(gone) > maxRefreshed {
		s.rebuild()
		return changed, gone, nil
	}
	for _, id := range gone {
		s.refresh(id)
	}
	for id := range changed {
		s.refresh(id)
	}
	return changed, gone, nil
}

// maxRefreshed is the number of ports up to which a change refreshes the view port by port; each
// costs a hundredth of what it costs to build the view from scratch.
const maxRefreshed = 32

// changesPins reports whether a change of ports pins or frees a MAC. mu is held.
func (s *Switch) changesPins(changed map[PortID]PortConfig, gone []PortID) bool {
	for _, id := range gone {
		if len(s.ports[id].cfg.MACs) > 0 {
			return true
		}
	}
	for id, cfg := range changed {
		var pinned []MAC
		if p := s.ports[id]; p != nil {
			pinned = p.cfg.MACs
		}
		if !slices.Equal(pinned, cfg.MACs) {
			return true
		}
	}
	return false
}

// checkPins returns an error if a MAC would be pinned to two ports. mu is held.
func (s *Switch) checkPins(changed map[PortID]PortConfig, leaves map[PortID]bool) error {
	pinned := make(map[MAC]string)
	for id, p := range s.ports {
		if _, changes := changed[id]; changes || leaves[id] {
			continue
		}
		for _, m := range p.cfg.MACs {
			pinned[m] = p.cfg.Name
		}
	}
	for _, cfg := range changed {
		for _, m := range slices.Compact(slices.Sorted(slices.Values(cfg.MACs))) {
			if name, taken := pinned[m]; taken {
				return fmt.Errorf("MAC %v is pinned to %s already", m, name)
			}
			pinned[m] = cfg.Name
		}
	}
	return nil
}

// contradicts reports whether a learned entry is no longer valid, because it was learned under
// rules other than those that the changed ports have now.
func (v *view) contradicts(e *Entry, changed map[PortID]PortConfig) bool {
	if e.Kind == KindStatic {
		return false
	}
	if owner, ok := v.pinned[e.MAC]; ok && owner != e.Port {
		return true
	}
	cfg, ok := changed[e.Port]
	if p := v.port(e.Port); ok && p != nil {
		_, carried := p.vlans.egress(e.VLAN)
		return !carried || len(cfg.MACs) > 0 && !slices.Contains(cfg.MACs, e.MAC)
	}
	return false
}

// clone returns a copy with slices of its own, which are nil if empty.
func (c PortConfig) clone() PortConfig {
	c.MACs, c.VLANs = append([]MAC(nil), c.MACs...), append([]uint16(nil), c.VLANs...)
	return c
}

// Port returns the configuration of a port, and whether there is one. The caller owns its slices.
func (s *Switch) Port(id PortID) (PortConfig, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.ports[id]
	if !ok {
		return PortConfig{}, false
	}
	c := p.cfg
	c.MACs, c.VLANs = slices.Clone(c.MACs), slices.Clone(c.VLANs)
	return c, true
}

// forget removes everything learned at a port and, if static is set, what was pinned there. Groups
// that were joined there are kept as long as the port is: its hosts do not report them again just
// because a session ends, and as long as the port is down it gets nothing.
func (s *Switch) forget(id PortID, static bool) {
	s.fdb.flushPort(id, static)
	if static {
		s.assigned.forget(id)
		s.groups.flush(id)
	}
	s.hosts.flush(id)
}

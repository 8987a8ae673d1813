package route

import "slices"

// Preview returns the changes that Apply(s) would make, one line each, in order, and its warnings.
// It changes nothing. Devices that do not exist yet count as new ones; those that do, and what is
// on them, count as this instance's own, as they are when it runs.
func (m *Manager) Preview(s State) (changes, warnings []string, err error) {
	if err := s.validate(); err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, ErrClosed
	}
	f, err := m.k.read()
	if err != nil {
		return nil, nil, newOpError("read", "the kernel's network state", nil, err)
	}
	own := newMemory()
	for _, d := range s.Devices {
		own.devices[d.Name] = true
		if _, ok := f.links[d.Name]; !ok {
			f.links[d.Name] = link{name: d.Name}
		}
		if master := f.links[d.Name].master; master != "" {
			own.owned[masterObject{d.Name, master}] = true
		}
	}
	for o := range f.addrs {
		byKernel := o.addr.Addr().Is6() && o.addr.Addr().IsLinkLocalUnicast()
		if own.devices[o.dev] && !byKernel {
			own.owned[o] = true
		}
	}
	p := newPlan(m.instance, s, m.Mark(s), f, own)
	for _, c := range diff(m.instance, p.want, f, own) {
		changes = append(changes, c.String())
	}
	return changes, slices.Clone(p.warnings), nil
}

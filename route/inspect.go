package route

import "slices"

// Standing says how an object of an instance stands in the kernel.
type Standing string

// The standings.
const (
	Present Standing = "present" // wanted and there
	Missing Standing = "missing" // wanted and not there
	Refused Standing = "refused" // wanted, and the kernel did not accept it when it was tried last
	Surplus Standing = "surplus" // there by our mark, and not wanted
)

// Item is one object that an instance wants in the kernel, or has there.
type Item struct {
	Object   string // what ip(8) calls it: "route 10.20.0.0/16 dev office"
	Standing Standing
}

// Inspect reads what the kernel has now and compares it with the State as last given to Apply. It
// changes nothing. The items that are wanted come in the order in which they are made, then the
// surplus. The warnings name what is left out on purpose.
func (m *Manager) Inspect() (items []Item, warnings []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, ErrClosed
	}
	f, err := m.k.read()
	if err != nil {
		return nil, nil, newOpError("read", "the kernel's network state", nil, err)
	}
	p := newPlan(m.instance, m.state, m.Mark(m.state), f, m.memory)
	for _, dev := range p.missing {
		items = append(items, Item{"link " + dev, Missing})
	}
	for _, o := range p.want {
		standing := Missing
		switch {
		case o.present(f, m.instance):
			standing = Present
		case m.refused[o]:
			standing = Refused
		}
		items = append(items, Item{o.String(), standing})
	}
	for _, c := range diff(m.instance, p.want, f, m.memory) {
		if c.do == doRemove {
			items = append(items, Item{c.o.String(), Surplus})
		}
	}
	return items, slices.Clone(p.warnings), nil
}

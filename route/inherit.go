package route

// Inherit says that the devices are those of the process before, which has applied the State that
// Apply is given next: its addresses, and the membership in a bridge, count as made by this
// Manager, so they go when they are no longer wanted. Otherwise what was there before stays.
func (m *Manager) Inherit() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inherit = true
}

// takeOver notes what there is of the State of the process before. Callers hold mu.
func (m *Manager) takeOver(want []object, f facts) {
	for _, o := range want {
		switch o.(type) {
		case addrObject, masterObject, upObject:
			if o.present(f, m.instance) {
				m.memory.owned[o] = true
			}
		}
	}
	m.inherit = false
}

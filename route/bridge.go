package route

// awaited reports whether o has to wait until others make their bridge again. Callers hold mu.
//
// A bridge of ours that somebody deletes is made again. One that others made is not: an empty
// bridge in its place would join no LAN, and would be in the way of whoever deletes a bridge in
// order to make it with other settings. The device joins it as soon as it is there again.
func (m *Manager) awaited(o object, f facts) bool {
	name := ""
	switch o := o.(type) {
	case bridgeObject:
		name = o.name
	case masterObject:
		name = o.bridge
	}
	_, there := f.links[name]
	return !there && m.memory.foreign[name]
}

package tunnel

import "tund/tunnel/udp"

// UnderlayChanged is called when everything under the tunnel changed: the source addresses remembered for peers are
// forgotten, and peers with a session hear from us at once, so that they learn our new address.
func (t *Tunnel) UnderlayChanged() { t.PathsChanged(func(udp.Endpoint) bool { return true }) }

// PathsChanged is called when addresses or routes under the tunnel changed. It does what UnderlayChanged does, for those
// peers whose path stale says has changed, and for those whose path is not known. The others go on as they are: a
// peer that has chosen one of our addresses goes on hearing from that one. stale is given endpoints with a Source.
func (t *Tunnel) PathsChanged(stale func(udp.Endpoint) bool) {
	now := t.clock.Now()
	t.peersMu.RLock()
	order := t.order
	t.peersMu.RUnlock()
	for _, p := range order {
		ep := p.endpoint.Load()
		if ep != nil && ep.Source.IsValid() && !stale(*ep) {
			continue
		}
		p.clearSource()
		p.mu.Lock()
		p.renewZone()
		p.mu.Unlock()
		if s := p.current.Load(); s != nil && s.usable(now) {
			t.keepalive(p, now)
		}
	}
}

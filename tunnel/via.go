package tunnel

import (
	"net/netip"

	"tund/tunnel/l3"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
)

// ViaRoute is a route of the host through the TUN device: what is sent to Dst goes to the peer that
// has the address Gateway.
type ViaRoute struct {
	Dst     netip.Prefix
	Gateway netip.Addr
}

// SetVia makes the routes of the host decide which peer gets a packet, in place of the allowed IPs,
// which then only say what each peer may send. A gateway belongs to the peer that alone has it as
// an allowed IP. A destination without a route goes to the peer that alone has it as an allowed
// IP, as the addresses of the peers themselves do.
func (t *Tunnel) SetVia(routes []ViaRoute) {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	t.viaRoutes = append([]ViaRoute{}, routes...)
	t.applyVia()
}

// NoVia makes the allowed IPs decide again.
func (t *Tunnel) NoVia() {
	t.configMu.Lock()
	defer t.configMu.Unlock()
	t.viaRoutes = nil
	t.via.Store(nil)
}

// applyVia rebuilds the table of routers. configMu is held.
func (t *Tunnel) applyVia() {
	if t.viaRoutes == nil {
		return
	}
	table := new(lane.Via)
	table.Update(func(tx *l3.Tx[*peer.Peer]) {
		for _, r := range t.viaRoutes {
			if p, ok := t.routes.LookupSole(r.Gateway); ok {
				tx.Insert(r.Dst, p)
			}
		}
	})
	t.via.Store(table)
}

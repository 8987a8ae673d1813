package tunnel

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"tund/internal/drop"
)

// TestVia_routesOfTheHostChooseThePeer: several peers may send everything, and a route by way of
// the address of one of them leads to it.
func TestVia_routesOfTheHostChooseThePeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b, c := w.end(), w.end(), w.end()
		all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		for _, x := range []*end{b, c} {
			x.knows(a, false) // first: a calls a peer that shares its networks at once
			a.knows(x, true, func(p *PeerChange) { p.SharedIPs = all })
		}
		site, host := netip.MustParsePrefix("10.20.0.0/16"), netip.MustParseAddr("10.20.1.1")
		sends := func(to netip.Addr, atB, atC int, why string) {
			t.Helper()
			a.queue.Inject(packet(a.inner, to, 10))
			synctest.Wait()
			b.expect(atB, why)
			c.expect(atC, why)
		}
		a.tun.SetVia(nil)
		a.sends(b, 10)
		b.expect(1, "its own address")
		a.sends(c, 10)
		c.expect(1, "its own address")
		sends(host, 0, 0, "without a route")
		if n := a.dropped(drop.NoPeer); n != 1 {
			t.Errorf("no-peer = %d, want 1", n)
		}
		a.tun.SetVia([]ViaRoute{{site, netip.MustParseAddr("10.9.0.200")}})
		sends(host, 0, 0, "via nobody")
		a.tun.SetVia([]ViaRoute{{site, b.inner}})
		sends(host, 1, 0, "via b")
		a.tun.SetVia([]ViaRoute{{site, b.inner}, {netip.MustParsePrefix("10.20.1.0/24"), c.inner}})
		sends(host, 0, 1, "a longer route via c")
		for _, x := range []*end{b, c} { // both may send it
			x.queue.Inject(packet(host, a.inner, 10))
			synctest.Wait()
			a.expect(1, "from either")
		}
		a.configure(Change{Peers: []PeerChange{{PublicKey: c.key.Public(), Remove: true}}})
		sends(host, 1, 0, "c was removed")
		a.tun.NoVia()
		sends(host, 1, 0, "by allowed IPs")
	})
}

package ethernet

import "testing"

// Two branches behind a hub that keeps them apart: each reaches the hub's LAN, neither the other.
// Once one of them is not isolated any more, they reach each other.
func TestHub_isolatedPeersReachTheHubOnly(t *testing.T) {
	beside(t)
	w := newWAN(t)
	hub, north, south := w.site("hub"), w.site("north"), w.site("south")
	hub.tap = []string{"hub = true"}
	hub.knows(north, "isolated = true")
	hub.knows(south, "isolated = true")
	north.knows(hub)
	south.knows(hub)
	centre, a, b := hub.host(1), north.host(2), south.host(3)
	start(t, hub, north, south)
	a.reaches(centre.v4, startLimit)
	b.reaches(centre.v6(), startLimit)
	a.unreachable(b.v4)
	b.unreachable(a.v6())
	hub.peers[0].lines = nil
	hub.reloads()
	a.reaches(b.v4, startLimit)
	b.reaches(a.v6(), startLimit)
}

package advice

import (
	"iter"
	"net/netip"

	"tund/internal/statusview"
	"tund/route"
	"tund/tunnel"
)

// maxLoopLookups bounds the endpoints that are looked up although no allowed IP covers them.
const maxLoopLookups = 256

// loopback is the index of the loopback device, in every network namespace.
const loopback = 1

// FindLoops warns about peers whose endpoint is reached through one of our own devices, or is our
// own UDP port. The tunnel itself keeps such a loop from growing; here it is reported. One peer
// behind another is intended, and not warned about. mark is the fwmark of our datagrams.
func FindLoops(routes *route.Manager, problems *statusview.Problems, endpoints iter.Seq[tunnel.PeerEndpoint], mark uint32, port uint16) {
	inside, ours := make(map[string]bool), make(map[string]bool) // peers by name
	all := 0
	for range endpoints {
		all++
	}
	for e := range endpoints {
		if e.Via == "" && all > maxLoopLookups {
			continue
		}
		if e.Addr.Port() == port {
			out, err := routes.Departure(e.Addr.Addr(), netip.Addr{}, mark)
			ours[e.Name] = err == nil && out == loopback
		}
		if into, err := routes.LeadsIntoTunnel(e.Addr.Addr(), mark); err == nil && into {
			inside[e.Name] = true
		}
	}
	problems.SolvedWhere(statusview.KindRoutingLoop, func(peer string) bool { return !inside[peer] && !ours[peer] })
	for e := range endpoints {
		if ours[e.Name] {
			problems.Note(statusview.KindRoutingLoop, e.Name, "endpoint "+e.Addr.String()+" is this host itself, and our own UDP port: give that of the peer")
			continue
		}
		if !inside[e.Name] || e.Via != "" && e.Via != e.Name && !inside[e.Via] {
			continue
		}
		text := "endpoint " + e.Addr.String() + " is reached through the tunnel itself: see `ip route get " + e.Addr.Addr().String() + "`"
		switch e.Via {
		case "":
			text += "; the route is not ours"
		case e.Name:
			text += "; leave the endpoint out of the peer's allowed_ips, or add a longer route to it"
		default:
			text += "; it is an allowed IP of " + e.Via + ", which is itself reached through the tunnel"
		}
		problems.Note(statusview.KindRoutingLoop, e.Name, text)
	}
}

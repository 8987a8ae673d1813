package ethernet

import (
	"time"

	"tund/tunnel/l2"
)

// Bridge connects the switch with the Linux bridge that the TAP is in. Whoever reads the bridge's
// forwarding database (internal/netwatch, by way of internal/daemon) calls its methods, which are
// safe for concurrent use, and serves its requests. Without one, the switch knows of the LAN what
// it hears at the TAP.
type Bridge struct {
	lan      *LAN
	requests chan BridgeRequest
}

// BridgeRequest is what the switch wants of the bridge.
type BridgeRequest struct {
	// Ask: when did the bridge last hear this station (MAC and VLAN)? Answer takes the answer.
	Ask *l2.Station
	// Flush: the bridge is to forget what it has learned at the TAP.
	Flush bool
}

// maxRequests bounds the requests that wait: one for each claim that may be pending at a time. What
// does not fit is lost, and the claim is decided without the bridge.
const maxRequests = 512

// Bridge returns the connection with the bridge; nil without a TAP.
func (e *LAN) Bridge() *Bridge {
	if e == nil {
		return nil
	}
	return &e.bridge
}

// Requests returns the channel of the requests. It is never closed.
func (b *Bridge) Requests() <-chan BridgeRequest { return b.requests }

// Sync sets the complete list of stations; see l2.Switch.SyncStations. all is not retained.
func (b *Bridge) Sync(all []l2.Station, allVLANs bool) {
	b.lan.sw.SyncStations(b.lan.env.Clock.Now(), all, allVLANs)
	b.lan.kick()
}

// Lost says that there is no bridge to read.
func (b *Bridge) Lost() { b.lan.sw.NoStations() }

// Add adds stations that the bridge has just heard. The slice is not retained.
func (b *Bridge) Add(stations []l2.Station) {
	b.lan.sw.AddStations(b.lan.env.Clock.Now(), stations)
	b.lan.kick()
}

// Remove ends a station.
func (b *Bridge) Remove(vlan uint16, mac l2.MAC, why l2.Departure) {
	b.lan.sw.RemoveStation(b.lan.env.Clock.Now(), vlan, mac, why)
	b.lan.kick()
}

// Answer answers BridgeRequest.Ask; see l2.Switch.StationHeard.
func (b *Bridge) Answer(vlan uint16, mac l2.MAC, idle time.Duration, known bool) {
	b.lan.sw.StationHeard(b.lan.env.Clock.Now(), vlan, mac, idle, known)
	b.lan.kick()
}

// request passes a request on unless too many are waiting.
func (b *Bridge) request(r BridgeRequest) {
	select {
	case b.requests <- r:
	default:
	}
}

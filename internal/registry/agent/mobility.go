package agent

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// Hosts that several sites have. A host that has moved is claimed by the site where it is now, with
// a sequence number that is higher by one. A LAN with two gateways, of which each is a site, has
// its hosts at both: neither takes them from the other, since which gateway is used is for the
// switches to decide.

// raisePause is how long a site waits after a move of a host that it has taken from another site
// lately, until it takes it again. Within that time the loop guard finds out that two sites serve
// one LAN, and a host that is at both is moved twice at the most.
const raisePause = 4 * time.Second

// claim decides whether a host on our LAN is ours. here says that tund has it on our LAN although
// it knows where else it was.
func (a *Agent) claim(d *view.Decision, id view.HostID, was record.Station, had bool, now time.Time, here bool) (record.Station, bool) {
	rival, contested := d.Rivals[id]
	if best, there := d.Hosts[id]; !contested || had && there && best.Site == a.o.View.Self {
		return record.Station{MAC: id.MAC, Seq: was.Seq}, true
	}
	told, known := a.told.hosts[id]
	switch {
	case rival.Granted, rival.Station.Sticky, rival.Station.Seq == math.MaxUint32:
		return record.Station{}, false // it cannot move
	case !here, !known, told.Peer != rival.Site.String(), told.Seq != rival.Station.Seq:
		return record.Station{}, false // it has moved there, and was not seen here since
	case a.view.Frozen(id, now), a.shares(rival.Site, id.VLAN), a.standsBy(rival.Site, id.VLAN), a.raisedLately(id, now):
		return record.Station{}, false
	}
	a.own.raised[id] = now
	return record.Station{MAC: id.MAC, Seq: rival.Station.Seq + 1}, true
}

// shares reports whether a site is another gateway of our own LAN, in a VLAN.
func (a *Agent) shares(site record.Site, vlan uint16) bool {
	return slices.ContainsFunc(a.own.sharing, func(p control.BlockedPort) bool { return inVLAN(p.VLAN, vlan) && a.isPort(p.Port, site) })
}

// standsBy reports whether a site reaches our LAN by another gateway of it, in a VLAN: what we hear
// of that site's hosts has come by that gateway. A host that has really moved to our LAN is for
// that gateway to claim.
func (a *Agent) standsBy(site record.Site, vlan uint16) bool {
	return slices.ContainsFunc(a.own.standby, func(p control.StandbyPort) bool { return inVLAN(p.VLAN, vlan) && a.isPort(p.Port, site) })
}

func inVLAN(listed int, vlan uint16) bool { return listed == int(vlan) || listed == control.AllVLANs }

// isPort reports whether tund calls a site by this name: that in its grant or, where it is taken,
// the beginning of its key.
func (a *Agent) isPort(port string, site record.Site) bool {
	return port == a.view.Name(site) || len(port) >= len(keys.PublicKey(site).Short()) && strings.HasPrefix(site.String(), port)
}

// raisedLately reports whether we have taken a host from another site, and have to wait before we
// do so again.
func (a *Agent) raisedLately(id view.HostID, now time.Time) bool {
	at, raised := a.own.raised[id]
	if !raised {
		return false
	}
	if moved, known := a.view.Moved(id); known && moved.After(at) {
		at = moved
	}
	return now.Sub(at) < raisePause && !at.After(now)
}

// forgetRaised forgets what matters no more.
func (h *ownHosts) forgetRaised(now time.Time) {
	maps.DeleteFunc(h.raised, func(_ view.HostID, at time.Time) bool { return now.Sub(at) >= view.FreezeTime || at.After(now) })
}

package l2

import "tund/internal/boottime"

// What multicast snooping knows when a session ends, or another gateway of a LAN takes over.
//
// What the hosts of a peer have joined is kept while its session is down (renew).
//
// Hosts do not notice which of two gateways carries their traffic, so they report their groups only
// when the querier asks next, up to queryInterval later. Until then the port that opens is given
// what was joined at the other one (inherit). The gateway that takes over has a similar gap: while
// it stood by, the peer's reports did not reach it. It sends the peer all multicast until the hosts
// there have been asked (unsure).

// heir is a port that leads to the same LAN in VLAN vid as port from, which has the LAN's reports.
type heir struct {
	from, to PortID
	vid      uint16 // everyVLAN: in all
}

// inherit gives ports what was reported at others, for renewInterval.
func (g *groups) inherit(now boottime.Time, heirs []heir) {
	type place struct {
		port PortID
		vid  uint16
	}
	to := make(map[place]PortID, len(heirs))
	for _, h := range heirs {
		if h.from != LocalPort && h.to != LocalPort {
			to[place{h.from, h.vid}] = h.to
		}
	}
	if len(to) == 0 {
		return
	}
	sec := second(now)
	until := sec + renewInterval
	// next returns the heir of a listener, unless it is in list itself for as long.
	next := func(vid uint16, l listener, list []listener) (listener, bool) {
		port, ok := to[place{l.port, vid}]
		if !ok {
			if port, ok = to[place{l.port, everyVLAN}]; !ok {
				return listener{}, false
			}
		}
		for _, other := range list {
			if other.port == port && other.until >= until {
				return listener{}, false
			}
		}
		return listener{port, until}, l.until > sec
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, list := range g.members {
		for _, l := range list {
			if h, ok := next(keyVID(key), l, list); ok {
				g.join(key, h)
			}
		}
	}
	for key, d := range g.domains {
		vid := uint16(key >> 1)
		for _, l := range d.routers {
			if h, ok := next(vid, l, d.routers); ok {
				d.routers, _ = setListener(d.routers, h, maxRouterPorts)
			}
		}
		for _, l := range d.queriers {
			if h, ok := next(vid, l, d.queriers); ok {
				d.queriers, _ = setListener(d.queriers, h, maxRouterPorts)
			}
		}
	}
	for at, port := range to {
		if g.wantsAll[at.port] > sec {
			g.wantsAll[port] = max(g.wantsAll[port], until)
		}
	}
}

// unsure lets a port have all multicast for renewInterval, because reports may have been missed
// there.
func (g *groups) unsure(now boottime.Time, port PortID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wantsAll[port] = max(g.wantsAll[port], second(now)+renewInterval)
}

// renew extends what was reported at a port which carries frames again: its hosts have noticed
// nothing, and report only when the querier asks them next.
func (g *groups) renew(now boottime.Time, port PortID) {
	sec := second(now)
	until := sec + renewInterval
	extend := func(list []listener) {
		for i := range list {
			if list[i].port == port && list[i].until > sec {
				list[i].until = max(list[i].until, until)
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.perPort[port] > 0 {
		for _, list := range g.members {
			extend(list)
		}
	}
	for _, d := range g.domains {
		extend(d.routers)
		extend(d.queriers)
	}
}

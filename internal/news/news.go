// Package news reports what happens in a tunnel, and what the daemon does, as events that `tunctl
// monitor` and programs follow: it translates what the tunnel says of peers, drops and the switch
// into the kinds of internal/events.
//
// It decides neither what is an event of a peer, which internal/events does, nor who follows them.
// Its functions are safe for concurrent use, and all but Observe return at once.
package news

import (
	"context"
	"fmt"
	"maps"
	"time"

	"tund/internal/drop"
	"tund/internal/events"
	"tund/tunnel"
	"tund/tunnel/l2"
)

// Observe reports what happens to peers, and drops above a rate, until ctx ends. It calls looked
// after each look, which takes place every events.Interval, with the number of sessions that were
// made since the one before.
func Observe(ctx context.Context, log *events.Log, t *tunnel.Tunnel, looked func(sessions uint64)) {
	o, ps := events.NewObserver(log), peers{tunnel: t}
	tick := time.NewTicker(events.Interval)
	defer tick.Stop()
	for {
		before := ps.completed
		ps.completed = 0
		o.Look(time.Now(), ps.glances, losses(t))
		looked(max(ps.completed, before) - before) // a peer that is removed takes its number along
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// peers are those of a tunnel.
type peers struct {
	tunnel    *tunnel.Tunnel
	completed uint64 // sessions made with all of them
}

// glances describes the peers for an Observer.
func (ps *peers) glances(yield func(*events.Peer) bool) {
	var p events.Peer // one for all: only what it points to escapes
	for g := range ps.tunnel.Glances {
		p = events.Peer{
			Key: g.PublicKey, Name: g.Name, State: string(g.State), Reason: g.LastError,
			Endpoint: g.Endpoint, Completed: g.Handshakes.Completed, Failed: g.Handshakes.Failed, LastHandshake: g.LastHandshake,
		}
		ps.completed += p.Completed
		if !yield(&p) {
			return
		}
	}
}

// losses counts dropped packets that are missing somewhere, by reason.
func losses(t *tunnel.Tunnel) map[string]uint64 {
	drops := t.Drops()
	maps.DeleteFunc(drops, func(name string, _ uint64) bool { return !drop.IsLoss(name) })
	return drops
}

// Switch reports what happened at the switch.
func Switch(log *events.Log, news tunnel.EthernetNews) {
	for _, e := range news.Events {
		kind := events.Switch
		switch e.Kind {
		case l2.EventMoved:
			continue // Changes has every move
		case l2.EventLoop, l2.EventLoopEnd, l2.EventLANLoop:
			kind = events.Loop
		case l2.EventSpoof, l2.EventFrozen:
			conflict(log, &e)
			continue
		}
		vlan := int(e.VLAN)
		log.Add(events.Event{Time: e.At, Kind: kind, Port: e.Port, VLAN: &vlan, Message: e.Text})
	}
	now := time.Now()
	for _, c := range news.Changes {
		vlan := int(c.VLAN)
		e := events.Event{Time: now, MAC: c.MAC.String(), VLAN: &vlan, Port: c.PortName}
		switch c.Op {
		case l2.ChangeLearned:
			e.Kind, e.Message = events.MACLearned, e.MAC+" is behind "+e.Port
		case l2.ChangeMoved:
			e.Kind, e.Was, e.Message = events.MACMoved, c.FromName, e.MAC+" moved from "+c.FromName+" to "+e.Port
		case l2.ChangeGone:
			e.Kind, e.Message = events.MACGone, e.MAC+" is no longer known behind "+e.Port
		}
		log.Add(e)
	}
	for i := range news.Neighbors {
		neighbor(log, now, &news.Neighbors[i])
	}
	if news.Lost > 0 {
		log.Add(events.Event{
			Time: now, Kind: events.MACLost, Count: uint64(news.Lost),
			Message: "more addresses changed than are reported one by one: read the forwarding database",
		})
	}
}

// conflict reports that two ports use one MAC address.
func conflict(log *events.Log, e *tunnel.EthernetEvent) {
	vlan := int(e.VLAN)
	log.Add(events.Event{
		Time: e.At, Kind: events.Conflict, MAC: e.MAC.String(), VLAN: &vlan, Port: e.Port, Was: e.OtherPort, Message: e.Text,
	})
}

// neighbor reports which host has an IP address now.
func neighbor(log *events.Log, now time.Time, c *tunnel.EthernetNeighbor) {
	vlan := int(c.VLAN)
	e := events.Event{
		Time: now, Kind: events.Neighbor, IP: c.IP.String(), MAC: c.MAC.String(), VLAN: &vlan, Port: c.PortName,
	}
	switch c.Op {
	case l2.NeighborLearned:
		e.State, e.Message = "learned", e.IP+" is "+e.MAC+" behind "+e.Port
	case l2.NeighborMoved:
		e.State, e.Was, e.Message = "moved", c.Other.String(), e.IP+" is now "+e.MAC+" behind "+e.Port+", and was "+c.Other.String()
	case l2.NeighborGone:
		e.State, e.Message = "gone", e.IP+" is no longer known to belong to "+e.MAC
	case l2.NeighborDisputed:
		e.Kind, e.Was = events.Conflict, c.Other.String()
		e.Message = e.IP + " is used by two hosts: " + e.MAC + " behind " + e.Port + ", and " + e.Was
	}
	log.Add(e)
}

// Failover reports that a peer carries shared allowed IPs in place of another.
func Failover(log *events.Log, to, from string, prefixes int) {
	log.Add(events.Event{
		Time: time.Now(), Kind: events.Failover, Peer: to, Was: from, Count: uint64(prefixes),
		Message: fmt.Sprintf("%s carries %d shared allowed IPs in place of %s", to, prefixes, from),
	})
}

// Port reports that the link of a device went up or down.
func Port(log *events.Log, device string, up bool) {
	state := "down"
	if up {
		state = "up"
	}
	log.Add(events.Event{Time: time.Now(), Kind: events.Port, Port: device, State: state, Message: "device " + device + " is " + state})
}

// Config reports what became of a change of the configuration, and why, if it was not made as
// asked.
func Config(log *events.Log, state, message, reason string) {
	log.Add(events.Event{Time: time.Now(), Kind: events.Config, State: state, Message: message, Reason: reason})
}

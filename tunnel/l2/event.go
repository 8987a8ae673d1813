package l2

import (
	"cmp"
	"fmt"

	"tund/internal/boottime"
	"tund/internal/limit"
)

// EventKind is the kind of an Event.
type EventKind uint8

// The kinds of event.
const (
	EventMoved  EventKind = iota + 1 // a MAC moved from Other to Port
	EventFrozen                      // a MAC moved too often and stays at Port
	// Port used a MAC whose owner, behind Other, is alive.
	EventSpoof
	EventFull // Port has reached its limit of MACs
	// Port is blocked in VLAN because its LAN and that of Other are the same.
	EventLoop
	EventLoopEnd // Port is no longer blocked in VLAN
	EventLANLoop // the LAN behind the TAP itself contains a loop
	// Port sent a spanning tree frame and is blocked by BPDU guard.
	EventBPDU
	EventSilent     // the peer of Port does not answer hellos
	EventNoEthernet // the peer of Port does not carry Ethernet with us
	// The peer of Port would, but is not configured for Ethernet here.
	EventUnwantedEthernet
	EventMTU // the peer of Port has a different MTU, Number
	// The peer of Port uses another gateway of our LAN in VLAN and blocks us.
	EventStandby
	EventStandbyEnd // the peer uses us as the gateway in VLAN again
	EventCondition  // something is refused at Port, or by its peer; Text says what
)

// Event is something that an operator may want to know. Each kind is reported at most once a minute
// per port; changes of state are each reported, within the limits of changeRate.
type Event struct {
	Kind      EventKind
	Port      PortID
	Name      string // of Port
	Other     PortID
	OtherName string
	MAC       MAC
	VLAN      uint16
	Number    int
	Text      string
}

// String describes the event in words, without a trailing period.
func (e Event) String() string {
	switch e.Kind {
	case EventMoved:
		return fmt.Sprintf("%v (%s) moved from %s to %s", e.MAC, vlanName(e.VLAN), e.OtherName, e.Name)
	case EventFrozen:
		return fmt.Sprintf("%v (%s) moved %d times within %d s and is frozen at %s for %d s",
			e.MAC, vlanName(e.VLAN), freezeMoves, freezeWindow, e.Name, freezeDuration)
	case EventSpoof:
		return fmt.Sprintf("%s used the MAC %v (%s) of a host that is alive behind %s: refused",
			e.Name, e.MAC, vlanName(e.VLAN), e.OtherName)
	case EventFull:
		return fmt.Sprintf("%s shows more MACs than it may: new ones are not learned", e.Name)
	case EventLoop:
		return fmt.Sprintf("loop: the LANs of %s and %s are joined outside this tunnel: %s is blocked (%s)",
			e.Name, e.OtherName, e.Name, vlanName(e.VLAN))
	case EventLoopEnd:
		return fmt.Sprintf("loop gone: %s is open again (%s)", e.Name, vlanName(e.VLAN))
	case EventStandby:
		return fmt.Sprintf("%s reaches our LAN by another gateway: this one stands by for it (%s)", e.Name, vlanName(e.VLAN))
	case EventStandbyEnd:
		return fmt.Sprintf("%s reaches our LAN by this gateway again (%s)", e.Name, vlanName(e.VLAN))
	case EventLANLoop:
		return fmt.Sprintf("the local LAN has a loop of its own (%s): our probe came back from it", vlanName(e.VLAN))
	case EventBPDU:
		return fmt.Sprintf("%s sent a spanning tree frame: blocked for %v by bpdu = \"guard\"", e.Name, bpduGuardTime)
	case EventSilent:
		return fmt.Sprintf("%s does not answer as a tund with Ethernet: no frames are sent to it", e.Name)
	case EventNoEthernet:
		return fmt.Sprintf("%s does not carry Ethernet with us (no [tap], or no ethernet = true for this peer, over there)", e.Name)
	case EventUnwantedEthernet:
		return fmt.Sprintf("%s would carry Ethernet, but ethernet = true is not set for it here", e.Name)
	case EventMTU:
		return fmt.Sprintf("%s carries frames of up to %d bytes of payload, unlike us: longer ones are lost", e.Name, e.Number)
	}
	return e.Text
}

// warning identifies a kind of report that is made at most once a minute.
type warning struct {
	kind EventKind
	port PortID
}

// changeRate limits the reported changes of state of a port. A loop may appear in all
// maxProbedVLANs at once, and disappear from all of them. A peer that keeps changing its mind
// cannot flood the log.
var changeRate = limit.Each(warnInterval/2, 2*maxProbedVLANs)

// event queues e, unless the same was reported within the last minute or changes of state exceed
// their limit. mu is held.
func (s *Switch) event(now boottime.Time, e Event) {
	if len(s.queue.Events) >= maxQueueEvent || !s.mayReport(now, &e) {
		return
	}
	e.Name, e.OtherName = s.name(e.Port), s.name(e.Other)
	s.queue.Events = append(s.queue.Events, e)
}

// mayReport reports whether e may be reported now, and records that it was. mu is held.
func (s *Switch) mayReport(now boottime.Time, e *Event) bool {
	if p := s.ports[e.Port]; e.changesState() && p != nil {
		return p.changes.Take(now, changeRate)
	}
	key := warning{e.Kind, e.Port}
	if last, ok := s.warned[key]; ok && now.Sub(last) < warnInterval {
		return false
	}
	if len(s.warned) >= maxWarnings {
		clear(s.warned)
	}
	s.warned[key] = now
	return true
}

// changesState reports whether e is of a kind that marks the beginning or end of a state.
func (e *Event) changesState() bool {
	switch e.Kind {
	case EventLoop, EventLoopEnd, EventStandby, EventStandbyEnd, EventCondition:
		return true
	}
	return false
}

// name returns the name of a port for events. mu is held.
func (s *Switch) name(id PortID) string {
	if id == LocalPort {
		return cmp.Or(s.cfg.Name, "local")
	}
	if p := s.ports[id]; p != nil && p.cfg.Name != "" {
		return p.cfg.Name
	}
	return fmt.Sprintf("port %d", id)
}

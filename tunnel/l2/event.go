package l2

import (
	"fmt"

	"tund/internal/boottime"
	"tund/internal/limit"
)

// EventKind says what an Event is about.
type EventKind uint8

// The kinds of event.
const (
	EventMoved            EventKind = iota + 1 // a MAC moved from Other to Port
	EventFrozen                                // it moved too often and stays at Port
	EventSpoof                                 // Port used a MAC whose owner, behind Other, is alive
	EventFull                                  // Port has as many MACs as it may
	EventLoop                                  // Port is blocked in VLAN: its LAN and the one of Other are one
	EventLoopEnd                               // it no longer is
	EventLANLoop                               // the LAN behind the TAP has a loop of its own
	EventBPDU                                  // Port sent spanning tree and is blocked by BPDU guard
	EventSilent                                // Port does not answer hellos
	EventNoEthernet                            // Port's peer does not carry Ethernet with us
	EventUnwantedEthernet                      // Port's peer would, but is not configured to here
	EventMTU                                   // Port's peer has another MTU: Number
	EventStandby                               // Port's peer takes us for a second gateway of our LAN in VLAN, and blocks us
	EventStandbyEnd                            // it no longer does
)

// Event is something an operator may want to know. Each kind is reported at most once a minute for
// a port; changes of state are reported each time, as long as they are not more than changeRate
// lets through.
type Event struct {
	Kind      EventKind
	Port      PortID
	Name      string // of Port
	Other     PortID
	OtherName string
	MAC       MAC
	VLAN      uint16
	Number    int
}

// String says it in words, without a trailing period.
func (e Event) String() string {
	switch e.Kind {
	case EventMoved:
		return fmt.Sprintf("%v (VLAN %d) moved from %s to %s", e.MAC, e.VLAN, e.OtherName, e.Name)
	case EventFrozen:
		return fmt.Sprintf("%v (VLAN %d) moved %d times within %d s and is frozen at %s for %d s",
			e.MAC, e.VLAN, freezeMoves, freezeWindow, e.Name, freezeDuration)
	case EventSpoof:
		return fmt.Sprintf("%s used the MAC %v (VLAN %d) of a host that is alive behind %s: refused",
			e.Name, e.MAC, e.VLAN, e.OtherName)
	case EventFull:
		return fmt.Sprintf("%s shows more MACs than it may: new ones are not learned", e.Name)
	case EventLoop:
		return fmt.Sprintf("loop: the LANs of %s and %s are joined outside this tunnel: %s is blocked (VLAN %s)",
			e.Name, e.OtherName, e.Name, vlanWords(e.VLAN))
	case EventLoopEnd:
		return fmt.Sprintf("loop gone: %s is open again (VLAN %s)", e.Name, vlanWords(e.VLAN))
	case EventStandby:
		return fmt.Sprintf("%s reaches our LAN by another gateway: this one stands by for it (VLAN %s)", e.Name, vlanWords(e.VLAN))
	case EventStandbyEnd:
		return fmt.Sprintf("%s reaches our LAN by this gateway again (VLAN %s)", e.Name, vlanWords(e.VLAN))
	case EventLANLoop:
		return fmt.Sprintf("the local LAN has a loop of its own (VLAN %s): our probe came back from it", vlanWords(e.VLAN))
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
	return "unknown event"
}

func vlanWords(vid uint16) string {
	switch vid {
	case 0:
		return "untagged"
	case everyVLAN:
		return "all"
	}
	return fmt.Sprint(vid)
}

// warning is what is reported once a minute.
type warning struct {
	kind EventKind
	port PortID
}

// changeRate bounds the changes of state that are reported of a port. A loop may show in all
// maxProbedVLANs at once, and end in all of them. A peer that says one thing and its opposite in turn
// fills no log.
var changeRate = limit.Each(warnInterval/2, 2*maxProbedVLANs)

// event queues e, unless its like was reported within the last minute, or it is one change of state
// too many. mu is held.
func (s *Switch) event(now boottime.Time, e Event) {
	if len(s.queue.Events) >= maxQueueEvent || !s.mayReport(now, &e) {
		return
	}
	e.Name, e.OtherName = s.name(e.Port), s.name(e.Other)
	s.queue.Events = append(s.queue.Events, e)
}

// mayReport reports whether it is time to report e, and notes that it is done. mu is held.
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

// changesState reports whether e is one of two kinds that follow one another.
func (e *Event) changesState() bool {
	switch e.Kind {
	case EventLoop, EventLoopEnd, EventStandby, EventStandbyEnd:
		return true
	}
	return false
}

// name returns what a port is called. mu is held.
func (s *Switch) name(id PortID) string {
	if id == LocalPort {
		return "local"
	}
	if p := s.ports[id]; p != nil && p.cfg.Name != "" {
		return p.cfg.Name
	}
	return fmt.Sprintf("port %d", id)
}

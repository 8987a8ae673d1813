package ethernet

import (
	"time"

	"tund/internal/boottime"
	"tund/tunnel/l2"
)

// Event is something that the switch reports to the operator.
type Event struct {
	At   time.Time
	Kind l2.EventKind
	Text string
	Port string
	VLAN uint16
	MAC  l2.MAC // of the host concerned; 0: none
	// Name of the other port concerned; "": none.
	OtherPort string
}

// Change is a change of the forwarding database, with the names of its ports.
type Change struct {
	l2.Change
	PortName, FromName string
}

// Neighbor is a change of which host has an IP address, with the name of its port.
type Neighbor struct {
	l2.NeighborChange
	PortName string
}

// News is what happened at the switch since the last tick of its clock.
type News struct {
	Events    []Event
	Changes   []Change   // of the forwarding database, in order
	Neighbors []Neighbor // changes of IP addresses, in order
	Lost      int        // changes of either that are missing here, because there were too many
}

// Condition is a state of the switch that an operator should know of.
type Condition struct {
	l2.Condition
	Since time.Time // by the time of day
}

// Status describes the switch at one moment.
type Status struct {
	Entries []l2.Entry
	Ports   []l2.PortStatus
	// Present now, those that began first at the beginning.
	Conditions []Condition
	Limit      int // greatest number of entries
	Names      map[l2.PortID]string
	// What neighbour suppression has saved.
	Suppression l2.Suppression
}

// report passes an event to the log, which accepts as many as it wants, and describes it.
func (e *LAN) report(ev l2.Event) Event {
	e.env.Log.Ethernet(ev.Name, e.env.Clock.Now(), ev.String())
	return Event{At: e.env.Clock.Wall(), Kind: ev.Kind, Text: ev.String(), Port: ev.Name, VLAN: ev.VLAN, MAC: ev.MAC, OtherPort: ev.OtherName}
}

// tell passes what happened at the switch to whoever follows it.
func (e *LAN) tell(a *l2.Actions) {
	var news News
	for _, ev := range a.Events {
		news.Events = append(news.Events, e.report(ev))
	}
	if e.news == nil || len(news.Events)+len(a.Changes)+len(a.Neighbors)+a.Lost == 0 {
		return
	}
	news.Lost = a.Lost
	for _, c := range a.Changes {
		change := Change{Change: c, PortName: e.name(c.Port)}
		if c.Op == l2.ChangeMoved {
			change.FromName = e.name(c.From)
		}
		news.Changes = append(news.Changes, change)
	}
	for _, c := range a.Neighbors {
		news.Neighbors = append(news.Neighbors, Neighbor{c, e.name(c.Port)})
	}
	e.news(news)
}

// name returns the name of the device or the peer behind a port, or "" if the port is gone.
func (e *LAN) name(id l2.PortID) string {
	if id == l2.LocalPort {
		return e.dev.Name
	}
	if p := e.peer(id); p != nil {
		return p.DisplayName()
	}
	return ""
}

// conditions returns the conditions of the switch.
func (e *LAN) conditions(now boottime.Time) []Condition {
	wall := e.env.Clock.Wall()
	list := e.sw.Conditions()
	out := make([]Condition, len(list))
	for i, c := range list {
		out[i] = Condition{c, wall.Add(-now.Sub(c.Since))}
	}
	return out
}

// Status describes the switch, or returns nil without one.
func (e *LAN) Status() *Status {
	if e == nil {
		return nil
	}
	now := e.env.Clock.Now()
	return &Status{
		Entries: e.sw.Entries(now), Ports: e.sw.Ports(now), Conditions: e.conditions(now), Limit: int(e.limit.Load()), Names: e.names(),
		Suppression: e.sw.Suppression(),
	}
}

// Load is how much a switch has to remember, and what it saves.
type Load struct {
	Entries     map[string]int // learned, by the name of their port
	Limit       int            // greatest number of entries
	Suppression l2.Suppression // since the start
}

// Load returns the load of the switch; nil without one.
func (e *LAN) Load() *Load {
	if e == nil {
		return nil
	}
	l := &Load{Entries: make(map[string]int), Limit: int(e.limit.Load()), Suppression: e.sw.Suppression()}
	for _, p := range e.sw.Ports(e.env.Clock.Now()) {
		if name := e.name(p.ID); name != "" {
			l.Entries[name] = p.Entries
		}
	}
	return l
}

// names returns the names of the ports.
func (e *LAN) names() map[l2.PortID]string {
	names := map[l2.PortID]string{l2.LocalPort: e.dev.Name}
	for id, p := range *e.ports.Load() {
		if p != nil {
			names[l2.PortID(id)] = p.peer.DisplayName()
		}
	}
	return names
}

// Flush removes entries from the forwarding database and returns their number. port names the peer
// or the device whose entries are removed; empty means all.
func (e *LAN) Flush(f l2.Filter, port string) (int, error) {
	if e == nil {
		return 0, ErrNoEthernet
	}
	if port != "" {
		id, err := e.portNamed(port)
		if err != nil {
			return 0, err
		}
		f.Port = &id
	}
	return e.sw.Flush(f), nil
}

// Pin makes a static entry behind the peer or device with the given name.
func (e *LAN) Pin(vlan uint16, mac l2.MAC, port string) error {
	if e == nil {
		return ErrNoEthernet
	}
	id, err := e.portNamed(port)
	if err != nil {
		return err
	}
	return e.sw.Pin(e.env.Clock.Now(), vlan, mac, id)
}

// Switch returns the switch itself, for callers that examine one port or entry; nil without one.
func (e *LAN) Switch() *l2.Switch {
	if e == nil {
		return nil
	}
	return e.sw
}

func (e *LAN) portNamed(name string) (l2.PortID, error) {
	for id, n := range e.names() {
		if n == name {
			return id, nil
		}
	}
	return 0, l2.ErrNoPort
}

// Assign changes which hosts are assigned to which ports; see l2.Switch.Assign.
func (e *LAN) Assign(c l2.Assignment) error {
	if e == nil {
		return ErrNoEthernet
	}
	e.sw.Assign(e.env.Clock.Now(), c)
	e.kick()
	return nil
}

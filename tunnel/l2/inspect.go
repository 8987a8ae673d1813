package l2

// messageKind is what inspect found in a frame.
type messageKind uint8

const (
	messageNone messageKind = iota
	messageNeighbor
	messageQuery  // multicast querier or router: goes to all ports
	messageReport // goes to all peers, but to a LAN only if it is needed there
)

// inspect parses ARP, neighbour discovery, IGMP and MLD, learns from the message, and returns its
// kind. The parsed message is in v.neigh or v.group.
func (s *Switch) inspect(f *frameInfo, v *Verdict) messageKind {
	if !mayBeControl(f) {
		return messageNone
	}
	v.neigh = neighborMessage{}
	if parseNeighbor(f.p.Frame, &f.h, &v.neigh) {
		if f.view.suppresses(f.vid) && s.hosts.observe(f.now, f.in.id, f.vid, f.h.Src, &v.neigh) {
			v.Wake = true
		}
		if v.neigh.mac != 0 {
			if ip := v.neigh.ip; v.neigh.v6 {
				s.fdb.setHost(entryKey(f.vid, v.neigh.mac), ip[:])
			} else {
				s.fdb.setHost(entryKey(f.vid, v.neigh.mac), ip[12:])
			}
		}
		return messageNeighbor
	}
	if f.class != ClassMulticast || f.view.cfg.NoSnooping {
		return messageNone
	}
	v.group.reset()
	if !parseMembership(f.p.Frame, &f.h, &v.group) {
		return messageNone
	}
	if v.group.query {
		v.group.better = yields(s.mac, &f.h, f.p.Frame[f.h.Payload:])
		// A switch like us is no router: the bridge of its LAN sends it the reports of its hosts.
		v.group.router = v.group.router && !f.isQuery()
	}
	s.groups.observe(f.now, f.in.id, f.vid, &v.group)
	if v.group.report {
		return messageReport
	}
	return messageQuery
}

// mayBeControl is a cheap test before inspect that nearly every frame fails.
func mayBeControl(f *frameInfo) bool {
	if f.h.nested() {
		return false
	}
	b := f.p.Frame
	switch f.h.EtherType {
	case typeARP:
		return true
	case typeIPv4:
		return f.class == ClassMulticast
	case typeIPv6:
		return f.class == ClassMulticast || len(b) > f.h.Payload+6 && b[f.h.Payload+6] == protoICMPv6
	}
	return false
}

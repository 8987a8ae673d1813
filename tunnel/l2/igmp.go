package l2

import "encoding/binary"

// Which multicast membership messages are believed.
//
// A message that only adds traffic for the port it came from (a report that joins a group, or a
// router that announces itself) has to be intact: its checksum is correct and its destination MAC
// matches its IP destination. The bridge of the Linux kernel requires no more (ip_mc_check_igmp in
// net/ipv4/igmp.c, ipv6_mc_check_mld in net/ipv6/mcast_snoop.c), and refusing a legitimate but
// sloppy report would cut off its sender.
//
// A message that takes traffic away (a query, after which only reported groups are forwarded, or a
// report that leaves a group) must also be one that hosts and routers act upon. Otherwise nobody
// answers it, and groups for which nobody answers are pruned. It must come from this link (TTL or
// hop limit 1), carry the router alert option and have a plausible source address: RFC 3376 §4 and
// §9, RFC 2236 §2, RFC 3810 §5.1.14, §5.2.13 and §6.2, RFC 3590. Of queries, only a general query
// counts, and only if it was sent to all hosts (RFC 3376 §4.1.12, RFC 3810 §5.1.15): a
// group-specific query is not answered by the listeners of other groups.

// trusted says how far a membership message is believed.
type trusted uint8

const (
	trustNone  trusted = iota // malformed
	trustJoin                 // intact: it may add traffic
	trustLeave                // acted upon by hosts and routers: it may take traffic away
)

const (
	ipv4RouterAlert = 148 // option type, RFC 2113 §2.1
	ipv6RouterAlert = 5   // option type, RFC 2711 §2.1
	ipv6Pad1        = 0
)

// trust4 rates the IGMP message at s in the IPv4 packet b, which arrived in a frame to dst.
func trust4(b []byte, s *segment, dst MAC) trusted {
	header, msg := b[:s.off], b[s.off:s.end]
	if s.fragment || dst != multicastMAC4(b[16:]) || checksum(header, 0) != 0xffff || checksum(msg, 0) != 0xffff {
		return trustNone
	}
	if b[8] != 1 || !possibleSource4(b[12:]) || !routerAlert4(header[ipv4MinHeader:]) {
		return trustJoin
	}
	return trustLeave
}

// possibleSource4 reports whether hosts accept a packet from the address: 0.0.0.0, which a switch
// without an address uses for its queries, or a unicast address other than loopback (RFC 1122
// §3.2.1.3).
func possibleSource4(ip []byte) bool {
	switch {
	case ip[0] == 0:
		return binary.BigEndian.Uint32(ip) == 0
	default:
		return ip[0] != 127 && ip[0] < 224
	}
}

// routerAlert4 reports whether the options of an IPv4 header include router alert with value 0 (RFC
// 2113).
func routerAlert4(options []byte) bool {
	for len(options) > 0 {
		switch options[0] {
		case 0: // end of the list
			return false
		case 1: // no operation
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return false
		}
		if options[0] == ipv4RouterAlert {
			return options[1] == 4 && options[2] == 0 && options[3] == 0
		}
		options = options[options[1]:]
	}
	return false
}

// trust6 rates the MLD message at s in the IPv6 packet b, which arrived in a frame to dst. The
// source of a query must be a link-local address; that of a report may also be unspecified.
func trust6(b []byte, s *segment, dst MAC, query bool) trusted {
	msg := b[s.off:s.end]
	if s.fragment || dst != multicastMAC6(b[24:]) || !intactICMPv6(b, msg) {
		return trustNone
	}
	linkLocal := b[8] == 0xfe && b[9]&0xc0 == 0x80
	if b[7] != 1 || !linkLocal && (query || [16]byte(b[8:24]) != [16]byte{}) || !routerAlert6(b) {
		return trustJoin
	}
	return trustLeave
}

// intactICMPv6 reports whether the checksum of the ICMPv6 message msg in the IPv6 packet b is
// correct (RFC 8200 §8.1).
func intactICMPv6(b, msg []byte) bool {
	sum := uint32(checksum(b[8:ipv6Header], 0)) + uint32(len(msg)) + protoICMPv6
	return checksum(msg, sum) == 0xffff
}

// routerAlert6 reports whether the hop-by-hop header of the IPv6 packet b, which is the first
// extension header if present, contains the router alert for MLD (value 0).
func routerAlert6(b []byte) bool {
	if b[6] != protoHopByHop {
		return false
	}
	n := extensionLen(b[ipv6Header:], protoHopByHop)
	if n == 0 {
		return false
	}
	options := b[ipv6Header+2 : ipv6Header+n]
	for len(options) > 0 {
		if options[0] == ipv6Pad1 {
			options = options[1:]
			continue
		}
		if len(options) < 2 || int(options[1])+2 > len(options) {
			return false
		}
		if options[0] == ipv6RouterAlert {
			return options[1] == 2 && options[2] == 0 && options[3] == 0
		}
		options = options[options[1]+2:]
	}
	return false
}

// multicastMAC4 maps an IPv4 multicast address to its MAC (RFC 1112 §6.4); it returns 0 for any
// other address.
func multicastMAC4(ip []byte) MAC {
	if ip[0]>>4 != 0xe {
		return 0
	}
	return 0x01005e_000000 | MAC(binary.BigEndian.Uint32(ip)&0x7fffff)
}

// multicastMAC6 maps an IPv6 multicast address to its MAC (RFC 2464 §7); it returns 0 for any other
// address.
func multicastMAC6(ip []byte) MAC {
	if ip[0] != 0xff {
		return 0
	}
	return 0x3333_00000000 | MAC(binary.BigEndian.Uint32(ip[12:]))
}

// linkControl4 reports whether the IPv4 group is in 224.0.0.0/24, which is always flooded (RFC 4541
// §2.1.2).
func linkControl4(ip []byte) bool { return ip[0] == 224 && ip[1] == 0 && ip[2] == 0 }

// linkControl6 reports whether the IPv6 group has link-local scope or smaller: neighbour discovery,
// routing protocols, DHCPv6, LLMNR. Their listeners must be reached whether or not they have
// reported the group.
func linkControl6(ip []byte) bool { return ip[0] == 0xff && ip[1]&0x0f <= 2 }

// linkControl reports whether the frame with header h carries an IP packet to a group that is never
// pruned, or has an inner VLAN, whose listeners are not known.
func linkControl(frame []byte, h *Header) bool {
	if h.nested() {
		return true
	}
	b := frame[h.Payload:]
	switch h.EtherType {
	case typeIPv4:
		return len(b) >= ipv4MinHeader && linkControl4(b[16:])
	case typeIPv6:
		return len(b) >= ipv6Header && linkControl6(b[24:])
	}
	return false
}

// membershipMessage is what an IGMP, MLD or PIM packet tells the switch.
type membershipMessage struct {
	v6       bool
	query    bool // general query of a querier
	response int  // seconds within which hosts answer it
	better   bool // and a querier of our own yields to it
	router   bool // the sender's port leads to a multicast router
	report   bool
	overflow bool // the report had more records than were read
	n        int
	records  [maxRecords]membershipRecord
}

type membershipRecord struct {
	group MAC
	join  bool
}

// reset clears m. The records are left as they are, since n says how many are valid.
func (m *membershipMessage) reset() {
	m.v6, m.query, m.better, m.router, m.report, m.overflow, m.n, m.response = false, false, false, false, false, false, 0, 0
}

func (m *membershipMessage) add(group MAC, join bool) {
	if group == 0 {
		return
	}
	if m.n == maxRecords {
		m.overflow = true
		return
	}
	m.records[m.n] = membershipRecord{group, join}
	m.n++
}

// groupMAC4 returns the MAC under which listeners of an IPv4 group are stored; 0 if the address is
// not a group, or is one that is never pruned.
func groupMAC4(ip []byte) MAC {
	if linkControl4(ip) {
		return 0
	}
	return multicastMAC4(ip)
}

// groupMAC6 is groupMAC4 for an IPv6 group.
func groupMAC6(ip []byte) MAC {
	if linkControl6(ip) {
		return 0
	}
	return multicastMAC6(ip)
}

// parseMembership reads IGMP, MLD, PIM and multicast router discovery from the frame with header h
// into m, and reports whether it was an intact message of one of them. What is not believed is left
// out of m.
func parseMembership(frame []byte, h *Header, m *membershipMessage) bool {
	b := frame[h.Payload:]
	switch h.EtherType {
	case typeIPv4:
		s := segment4(b)
		if !s.complete || s.fragment {
			return false
		}
		switch s.proto {
		case protoPIM:
			m.router = h.Dst == allPIMRouters4
			return m.router
		case protoIGMP:
			trust := trust4(b, &s, h.Dst)
			return trust != trustNone && m.parseIGMP(b, b[s.off:s.end], trust)
		}
	case typeIPv6:
		s := segment6(b)
		if !s.complete || s.fragment {
			return false
		}
		m.v6 = true
		switch s.proto {
		case protoPIM:
			m.router = h.Dst == allPIMRouters6
			return m.router
		case protoICMPv6:
			msg := b[s.off:s.end]
			if len(msg) < 8 {
				return false
			}
			trust := trust6(b, &s, h.Dst, msg[0] == icmp6MLDQuery)
			return trust != trustNone && m.parseMLD(b, msg, trust)
		}
	}
	return false
}

// Destinations of PIM hellos: 224.0.0.13 and ff02::d (RFC 7761 §4.3.1).
const (
	allPIMRouters4 MAC = 0x01005e_00000d
	allPIMRouters6 MAC = 0x3333_0000000d
)

// parseIGMP parses the message msg (RFC 3376 §4, RFC 2236 §2, RFC 1112 appendix I, RFC 4286) in the
// IPv4 packet ip. Whoever queries counts as a multicast router, also from 0.0.0.0, the source of a
// bridge without an address. RFC 4541 §2.1.1 says otherwise, but a bridge that is the querier sends
// the reports of its own hosts to no other switch, so the groups they want are known to it alone.
// Linux does the same (br_multicast_query_received in net/bridge/br_multicast.c).
func (m *membershipMessage) parseIGMP(ip, msg []byte, trust trusted) bool {
	if len(msg) < 8 {
		return false
	}
	leave := trust == trustLeave
	switch msg[0] {
	case igmpTypeQuery:
		m.query = binary.BigEndian.Uint32(msg[4:]) == 0 && binary.BigEndian.Uint32(ip[16:]) == allHosts4
		m.router, m.response = m.query, igmpResponse(msg)
		return leave
	case 0x12, 0x16:
		m.report = true
		m.add(groupMAC4(msg[4:]), true)
	case 0x17:
		m.report = true
		m.add(groupMAC4(msg[4:]), false)
		return leave
	case 0x22:
		m.report = true
		m.parseRecords(msg[8:], int(binary.BigEndian.Uint16(msg[6:])), 4, leave)
	case 0x30:
		m.router = true
	default:
		return false
	}
	return true
}

// maxResponse bounds, in seconds, how long a query may keep the switch from pruning: what a query
// of version 2 can say.
const maxResponse = 26

// igmpResponse returns the seconds within which hosts answer a query, rounded up (RFC 3376 §4.1.1
// and §7.2.1). Version 1 does not say: 10 s.
func igmpResponse(msg []byte) int {
	tenths := int(msg[1])
	switch {
	case tenths == 0:
		return queryResponse
	case tenths >= 128 && len(msg) >= 12: // version 3: mantissa and exponent
		tenths = (tenths&15 | 16) << (tenths>>4&7 + 3)
	}
	return min((tenths+9)/10, maxResponse)
}

// mldResponse is igmpResponse for MLD (RFC 3810 §5.1.3).
func mldResponse(msg []byte) int {
	ms := int(binary.BigEndian.Uint16(msg[4:]))
	if ms >= 32768 && len(msg) >= mldQueryBytes {
		ms = (ms&0xfff | 0x1000) << (ms>>12&7 + 3)
	}
	return min((ms+999)/1000, maxResponse)
}

const allHosts4 = 0xe0000001 // 224.0.0.1

// allNodes6 is ff02::1.
var allNodes6 = [16]byte{0: 0xff, 1: 2, 15: 1}

// parseMLD parses the message msg, of at least 8 bytes (RFC 2710 §3, RFC 3810 §5, RFC 4286), in the
// IPv6 packet ip.
func (m *membershipMessage) parseMLD(ip, msg []byte, trust trusted) bool {
	leave := trust == trustLeave
	switch msg[0] {
	case icmp6MLDQuery:
		if len(msg) < 24 {
			return false
		}
		m.query = [16]byte(msg[8:24]) == [16]byte{} && [16]byte(ip[24:40]) == allNodes6
		m.router, m.response = m.query, mldResponse(msg)
		return leave
	case icmp6MLDReport, icmp6MLDDone:
		if len(msg) < 24 {
			return false
		}
		m.report = true
		join := msg[0] == icmp6MLDReport
		m.add(groupMAC6(msg[8:]), join)
		return join || leave
	case icmp6MLDv2Report:
		m.report = true
		m.parseRecords(msg[8:], int(binary.BigEndian.Uint16(msg[6:])), 16, leave)
	case icmp6MRDAdvert:
		m.router = true
	default:
		return false
	}
	return true
}

// parseRecords reads the n group records of an IGMPv3 or MLDv2 report, whose addresses have size
// bytes. Records that leave a group count only if leave is set.
func (m *membershipMessage) parseRecords(b []byte, n, size int, leave bool) {
	for range n {
		if len(b) < 4+size {
			return
		}
		sources := int(binary.BigEndian.Uint16(b[2:]))
		group := MAC(0)
		if size == 4 {
			group = groupMAC4(b[4:])
		} else {
			group = groupMAC6(b[4:])
		}
		switch b[0] {
		case 2, 4: // exclude mode: everything but some sources
			m.add(group, true)
		case 1, 3: // include mode: only these sources; none means leave
			if sources > 0 || leave {
				m.add(group, sources > 0)
			}
		case 5: // allow new sources
			m.add(group, true)
		} // 6 (block old sources): the querier will ask whether any are left
		if m.overflow {
			return
		}
		skip := 4 + size + sources*size + int(b[1])*4
		if skip > len(b) {
			return
		}
		b = b[skip:]
	}
}

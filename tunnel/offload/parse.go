package offload

import "encoding/binary"

// Numbers of the protocols and fields understood here.
const (
	protoHopByHop    = 0  // RFC 8200 §4.3
	protoTCP         = 6  // RFC 9293
	protoUDP         = 17 // RFC 768
	protoRouting     = 43 // RFC 8200 §4.4
	protoFragment    = 44 // RFC 8200 §4.5
	protoDestination = 60 // RFC 8200 §4.6

	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	etherVLAN   = 0x8100 // IEEE 802.1Q
	etherQinQ   = 0x88a8 // IEEE 802.1ad
	etherHeader = 14
	vlanTag     = 4
	maxLink     = etherHeader + 2*vlanTag

	ipv4Header = 20
	ipv6Header = 40
	udpHeader  = 8
	tcpHeader  = 20
	maxTCP     = 60 // data offset of 15 words

	// TCP flags, byte 13 of the header.
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpPSH = 0x08
	tcpURG = 0x20
	tcpCWR = 0x80

	tcpChecksum = 16 // offset of the checksum in the TCP header
	udpChecksum = 6  // and in the UDP header

	maxIPLen = 65535 // IPv4 total length; kept for IPv6 too
)

// network finds the IP header of frame. version is 4 or 6, or 0 when there is no whole fixed IP
// header; offset is then the size of as much link header as was understood, and at most len(frame).
func network(frame []byte, link Link) (offset int, version uint8) {
	if link == Ethernet {
		if len(frame) < etherHeader {
			return len(frame), 0
		}
		offset = etherHeader
		kind := binary.BigEndian.Uint16(frame[12:])
		for kind == etherVLAN || kind == etherQinQ {
			if offset == maxLink || len(frame) < offset+vlanTag {
				return offset, 0
			}
			kind = binary.BigEndian.Uint16(frame[offset+2:])
			offset += vlanTag
		}
		if kind != etherIPv4 && kind != etherIPv6 || len(frame) == offset {
			return offset, 0
		}
		if (kind == etherIPv4) != (frame[offset]>>4 == 4) {
			return offset, 0
		}
	}
	ip := frame[offset:]
	switch {
	case len(ip) >= ipv4Header && ip[0]>>4 == 4:
		return offset, 4
	case len(ip) >= ipv6Header && ip[0]>>4 == 6:
		return offset, 6
	}
	return offset, 0
}

// transport finds the header behind the IP header of ip and its extensions. plain is true when
// there are neither IPv4 options nor IPv6 extension headers. It fails on fragments, and on headers
// that do not fit.
func transport(ip []byte, version uint8) (offset int, proto uint8, plain, ok bool) {
	if version == 4 {
		offset = int(ip[0]&15) * 4
		fragment := binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 // offset or more-fragments
		ok = offset >= ipv4Header && offset <= len(ip) && !fragment
		return offset, ip[9], offset == ipv4Header, ok
	}
	proto, offset = ip[6], ipv6Header
	for proto == protoHopByHop || proto == protoRouting || proto == protoDestination {
		if len(ip) < offset+8 {
			return 0, 0, false, false
		}
		proto = ip[offset]
		offset += 8 + int(ip[offset+1])*8
		if offset > len(ip) {
			return 0, 0, false, false
		}
	}
	return offset, proto, offset == ipv6Header, proto != protoFragment
}

// Flow returns a number that is the same for all packets of one flow (addresses, protocol and
// ports), and for fragments of one packet; different flows may share a number. Nothing is
// validated: frames that are too short have flow 0.
func Flow(frame []byte, link Link) uint64 {
	offset, version := network(frame, link)
	if version == 0 {
		return 0
	}
	ip := frame[offset:]
	addresses, proto, ports := ip[12:20], ip[9], 0
	if version == 6 {
		addresses, proto, ports = ip[8:40], ip[6], ipv6Header
	} else if binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 {
		ports = int(ip[0]&15) * 4
	}
	h := uint64(proto) + 1
	for i := 0; i+8 <= len(addresses); i += 8 {
		h = (h ^ binary.LittleEndian.Uint64(addresses[i:])) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	if (proto == protoTCP || proto == protoUDP) && ports != 0 && len(ip) >= ports+4 {
		h = (h ^ uint64(binary.LittleEndian.Uint32(ip[ports:]))) * 0x9e3779b97f4a7c15
	}
	return h
}

// Stage is what a packet says about the course of its flow.
type Stage uint8

// The stages.
const (
	AnyStage Stage = iota // nothing: it is not TCP
	Opening               // a TCP segment with SYN, from either side
	Running               // another TCP segment, or a fragment of one
)

// FlowStage tells where in the course of its flow a packet stands. TCP behind extension headers of
// IPv6 is not looked for, and nothing is validated.
func FlowStage(frame []byte, link Link) Stage {
	offset, version := network(frame, link)
	if version == 0 {
		return AnyStage
	}
	ip := frame[offset:]
	proto, tcp := ip[9], int(ip[0]&15)*4
	if version == 6 {
		proto, tcp = ip[6], ipv6Header
	}
	switch {
	case proto != protoTCP:
		return AnyStage
	case version == 4 && binary.BigEndian.Uint16(ip[6:])&0x1fff != 0: // no first fragment
		return Running
	case len(ip) > tcp+13 && ip[tcp+13]&tcpSYN != 0:
		return Opening
	}
	return Running
}

package offload

import (
	"bytes"
	"encoding/binary"
)

// kind says how a packet from a peer may be treated, from the least to the most.
type kind uint8

const (
	kindAlone kind = iota // belongs to no flow known here: ARP, ICMP, …
	// May belong to any flow between its addresses: fragments, options, bad lengths.
	kindAddresses
	kindFlow // belongs to a flow by its UDP or TCP ports, and cannot be joined
	kindJoin // carries data of a flow and may be joined
)

// segment is what is known of a packet from its headers. Offsets are from the link header.
type segment struct {
	kind      kind
	version   uint8 // 4 or 6; 0: not an IP packet
	proto     uint8 // protoTCP or protoUDP when kind >= kindFlow
	sound     bool  // whole, and lengths agree: its TCP or UDP checksum may be left to the kernel
	noSum     bool  // UDP without a checksum
	network   int   // IP header
	transport int   // TCP or UDP header
	headers   int   // size of all headers
}

// parse fills s, which is zero, from packet. It reads nothing outside, whatever is there.
func (s *segment) parse(packet []byte, link Link) {
	s.network, s.version = network(packet, link)
	if s.version == 0 {
		return
	}
	ip := packet[s.network:]
	offset, proto, plain, ok := transport(ip, s.version)
	s.kind = kindAddresses
	if !ok || !plain {
		return
	}
	if proto != protoTCP && proto != protoUDP {
		s.kind = kindAlone
		return
	}
	if s.version == 4 && fold(ipv4Sum(ip)) != 0xffff {
		return // for the kernel to refuse; joined it would pass with a new checksum
	}
	s.proto, s.transport = proto, s.network+offset
	if l4 := ip[offset:]; proto == protoTCP {
		s.parseTCP(l4)
	} else {
		s.parseUDP(l4)
	}
	if !lengthExact(ip, s.version) { // cut, or with the padding of a short Ethernet frame
		s.sound = false
		s.kind = min(s.kind, kindFlow)
	}
}

func (s *segment) parseTCP(l4 []byte) {
	if len(l4) < tcpHeader {
		return
	}
	size := int(l4[12]>>4) * 4
	s.headers = s.transport + size
	if size < tcpHeader || size > len(l4) {
		return
	}
	s.sound = true
	s.kind = kindFlow
	if l4[13]&(tcpSYN|tcpRST|tcpURG|tcpCWR) == 0 && len(l4) > size {
		s.kind = kindJoin
	}
}

func (s *segment) parseUDP(l4 []byte) {
	if len(l4) < udpHeader {
		return
	}
	s.headers = s.transport + udpHeader
	s.kind = kindFlow
	if int(binary.BigEndian.Uint16(l4[4:])) != len(l4) {
		return // a length of its own (UDP options, or wrong): pass it as it is
	}
	if isDHCP(l4) {
		return
	}
	s.noSum = binary.BigEndian.Uint16(l4[udpChecksum:]) == 0
	if s.noSum && s.version == 6 {
		return // only tunnels may (RFC 6935): for the kernel to judge
	}
	s.sound = true
	if len(l4) > udpHeader {
		s.kind = kindJoin
	}
}

// isDHCP says whether a datagram is to or from a DHCP server or client (RFC 2131 §4.1). These read
// the network with packet sockets, which show superpackets and unfinished checksums as they are,
// and not all of them are prepared for that: DHCP passes as it is.
func isDHCP(l4 []byte) bool {
	const server, client = 67, 68
	for _, port := range [...]uint16{binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])} {
		if port == server || port == client {
			return true
		}
	}
	return false
}

// lengthExact says whether the IP length is that of ip.
func lengthExact(ip []byte, version uint8) bool {
	if version == 4 {
		return int(binary.BigEndian.Uint16(ip[2:])) == len(ip)
	}
	return int(binary.BigEndian.Uint16(ip[4:])) == len(ip)-ipv6Header
}

// checksumValid says whether the TCP or UDP checksum of a sound packet is right. UDP without one
// is.
func checksumValid(packet []byte, s *segment) bool {
	l4 := packet[s.transport:]
	if s.proto == protoUDP && binary.BigEndian.Uint16(l4[udpChecksum:]) == 0 {
		return s.version == 4
	}
	return fold(Sum(l4, pseudoSum(packet[s.network:], s.version, s.proto)+uint64(len(l4)))) == 0xffff
}

// sameFlow says whether packet may be of t's flow, so that its order to t must be kept. VLAN tags
// are not looked at: ending a train too early costs a write and nothing else.
func (t *train) sameFlow(packet []byte, s *segment) bool {
	h := &t.head
	if s.kind == kindAlone || s.version != h.version {
		return false
	}
	a, b := t.buf[VirtioHeaderLen+h.network:], packet[s.network:]
	if s.version == 4 {
		if binary.LittleEndian.Uint64(a[12:]) != binary.LittleEndian.Uint64(b[12:]) {
			return false
		}
	} else if !bytes.Equal(a[8:40], b[8:40]) {
		return false
	}
	if s.kind == kindAddresses {
		return true
	}
	ports := binary.LittleEndian.Uint32(t.buf[VirtioHeaderLen+h.transport:])
	return s.proto == h.proto && ports == binary.LittleEndian.Uint32(packet[s.transport:])
}

// continues says whether packet is the next segment of t: every header byte equal but those that
// must differ, and those as they must be. The rules are those of the kernel's GRO. It needs no
// parse of packet: t's headers have been parsed, and these are compared with them.
func (t *train) continues(packet []byte) bool {
	s := &t.head
	payload := len(packet) - s.headers
	if payload <= 0 || payload > t.gso || t.end-VirtioHeaderLen-s.network+payload > maxIPLen {
		return false
	}
	head := t.buf[VirtioHeaderLen : VirtioHeaderLen+s.headers]
	packet = packet[:len(packet):len(packet)]
	if s.network != 0 && !bytes.Equal(head[:s.network], packet[:s.network]) {
		return false
	}
	if !lengthExact(packet[s.network:], s.version) {
		return false
	}
	if s.version == 4 {
		if !t.continuesIPv4(head[s.network:], packet[s.network:]) {
			return false
		}
	} else if !continuesIPv6(head[s.network:], packet[s.network:]) {
		return false
	}
	if s.proto == protoTCP {
		return t.continuesTCP(head[s.transport:], packet[s.transport:s.headers])
	}
	return t.continuesUDP(head[s.transport:], packet[s.transport:])
}

// Masks over little-endian loads: a zero byte is not compared.
const (
	maskIPv4Low  = 0xffff_0000_0000_ffff // version, TOS, –length, –ID, flags and fragment offset
	maskIPv4High = 0xffff_ffff_0000_ffff // TTL, protocol, –checksum, source
	maskIPv6Low  = 0xffff_0000_ffff_ffff // version, class, label, –length, next header, hop limit
	// Acknowledgement, data offset, flags without FIN and PSH, window.
	maskTCPMid  = 0xffff_f6ff_ffff_ffff
	maskTCPHigh = 0xffff_0000 // –checksum, urgent pointer
)

// continuesIPv4 compares 20-byte headers. The ID counts up, or stays if the packet may not be
// fragmented; without that flag a fixed ID would make two packets' fragments look like one's.
func (t *train) continuesIPv4(head, ip []byte) bool {
	h, p := head[:ipv4Header], ip[:ipv4Header]
	le := binary.LittleEndian
	diff := (le.Uint64(h) ^ le.Uint64(p)) & maskIPv4Low
	diff |= (le.Uint64(h[8:]) ^ le.Uint64(p[8:])) & maskIPv4High
	diff |= uint64(le.Uint32(h[16:]) ^ le.Uint32(p[16:]))
	if diff != 0 || fold(ipv4Sum(p)) != 0xffff {
		return false
	}
	step := binary.BigEndian.Uint16(p[4:]) - binary.BigEndian.Uint16(h[4:])
	if t.segments == 1 {
		t.fixedID = step == 0 && h[6]&0x40 != 0 // the second segment decides
	}
	if t.fixedID {
		return step == 0
	}
	return step == uint16(t.segments)
}

func continuesIPv6(head, ip []byte) bool {
	h, p := head[:ipv6Header], ip[:ipv6Header]
	le := binary.LittleEndian
	diff := (le.Uint64(h) ^ le.Uint64(p)) & maskIPv6Low
	diff |= le.Uint64(h[8:]) ^ le.Uint64(p[8:])
	diff |= le.Uint64(h[16:]) ^ le.Uint64(p[16:])
	diff |= le.Uint64(h[24:]) ^ le.Uint64(p[24:])
	diff |= le.Uint64(h[32:]) ^ le.Uint64(p[32:])
	return diff == 0
}

// continuesTCP compares TCP headers of the same size, options included. t's first segment has none
// of SYN, RST, URG and CWR, so equal flags have none either.
func (t *train) continuesTCP(head, l4 []byte) bool {
	h, p := head[:tcpHeader], l4[:tcpHeader]
	le := binary.LittleEndian
	diff := uint64(le.Uint32(h) ^ le.Uint32(p))
	diff |= (le.Uint64(h[8:]) ^ le.Uint64(p[8:])) & maskTCPMid
	diff |= uint64((le.Uint32(h[16:]) ^ le.Uint32(p[16:])) & maskTCPHigh)
	return diff == 0 && binary.BigEndian.Uint32(p[4:]) == t.nextSeq && bytes.Equal(head[tcpHeader:], l4[tcpHeader:])
}

// continuesUDP compares ports, and that both or neither have a checksum.
func (t *train) continuesUDP(head, l4 []byte) bool {
	noSum := binary.BigEndian.Uint16(l4[udpChecksum:]) == 0
	return binary.LittleEndian.Uint32(head) == binary.LittleEndian.Uint32(l4) &&
		int(binary.BigEndian.Uint16(l4[4:])) == len(l4) && noSum == t.head.noSum
}

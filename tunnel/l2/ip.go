package l2

import "encoding/binary"

// IP protocol numbers that the switch examines (IANA).
const (
	protoHopByHop = 0
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58
	protoDestOpts = 60
	protoPIM      = 103

	ipv4MinHeader = 20
	ipv6Header    = 40
	// RFC 8200 defines six kinds, of which one may occur twice and the others once.
	maxExtHeaders = 8
)

// segment describes what follows the IP headers of a packet.
type segment struct {
	proto    uint8
	off      int  // offset in the IP packet; the end of the packet if the headers exceed it
	end      int  // end of the packet by its own length field; hosts ignore the padding after it
	fragment bool // part of a fragmented packet, or an IPv6 packet with a fragment header
	later    bool // a fragment that does not contain the start of the segment
	complete bool // all headers before the segment are present and known
}

// segmentOf finds the segment in the IP packet b, which must be of the type etherType. A truncated
// or overlong chain of headers results in complete == false.
func segmentOf(b []byte, etherType uint16) segment {
	if etherType == typeIPv4 {
		return segment4(b)
	}
	return segment6(b)
}

func segment4(b []byte) segment {
	if len(b) < ipv4MinHeader || b[0]>>4 != 4 {
		return segment{off: len(b), end: len(b)}
	}
	n := int(b[0]&0x0f) * 4
	if n < ipv4MinHeader || n > len(b) {
		return segment{off: len(b), end: len(b)}
	}
	b = trim(b, int(binary.BigEndian.Uint16(b[2:])))
	if n > len(b) {
		return segment{off: len(b), end: len(b)}
	}
	frag := binary.BigEndian.Uint16(b[6:])
	return segment{
		proto: b[9], off: n, end: len(b), complete: true,
		fragment: frag&0x3fff != 0, // more fragments follow, or the offset is not 0
		later:    frag&0x1fff != 0,
	}
}

func segment6(b []byte) segment {
	if len(b) < ipv6Header || b[0]>>4 != 6 {
		return segment{off: len(b), end: len(b)}
	}
	if n := int(binary.BigEndian.Uint16(b[4:])); n > 0 {
		b = trim(b, ipv6Header+n)
	}
	s := segment{proto: b[6], off: ipv6Header, end: len(b)}
	for range maxExtHeaders {
		n := 0
		switch s.proto {
		case protoHopByHop, protoRouting, protoDestOpts, protoAH, protoFragment:
			s.fragment = s.fragment || s.proto == protoFragment
			if n = extensionLen(b[s.off:], s.proto); n == 0 {
				s.off = len(b)
				return s
			}
		default:
			s.complete = true
			return s
		}
		if s.proto == protoFragment && binary.BigEndian.Uint16(b[s.off+2:])&0xfff8 != 0 {
			s.later, s.complete = true, true
		}
		s.proto = b[s.off]
		s.off += n
		if s.later {
			return s
		}
	}
	s.off = len(b)
	return s
}

// extensionLen returns the length of the extension header at the start of b; 0 if it is truncated.
func extensionLen(b []byte, kind uint8) int {
	if len(b) < 8 {
		return 0
	}
	n := 8
	switch kind {
	case protoAH:
		n += 4 * int(b[1])
	case protoHopByHop, protoRouting, protoDestOpts:
		n += 8 * int(b[1])
	}
	if n > len(b) {
		return 0
	}
	return n
}

// trim shortens b to the length in the IP header. Length 0, as in a superpacket longer than the
// field can express, leaves b as it is.
func trim(b []byte, length int) []byte {
	if length > 0 && length < len(b) {
		return b[:length]
	}
	return b
}

// checksum adds b to sum and folds it: the internet checksum (RFC 1071) without the final
// complement. It is meant for the small packets of the control protocols; the packet path has its
// own in tunnel/offload.
func checksum(b []byte, sum uint32) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// checksumICMPv6 returns the checksum of the ICMPv6 message msg, whose checksum field must be zero,
// in the IPv6 packet that begins with header.
func checksumICMPv6(header, msg []byte) uint16 {
	sum := uint32(checksum(header[8:40], 0)) + uint32(len(msg)) + protoICMPv6
	return ^checksum(msg, sum)
}

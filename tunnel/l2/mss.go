package l2

import "encoding/binary"

// MSS returns the TCP maximum segment sizes, for IPv4 and IPv6, with which a frame carries at most
// payload bytes after its Ethernet header and tags: payload less the 20 or 40 bytes of the IP
// header and the 20 bytes of the TCP header, but at least 0.
func MSS(payload int) (mss4, mss6 uint16) {
	clip := func(n int) uint16 { return uint16(min(max(n, 0), 65535)) }
	return clip(payload - 40), clip(payload - 60)
}

const (
	tcpMinHeader = 20
	tcpSYN       = 0x02
	tcpMaxMSS    = 2 // option kind, RFC 9293 §3.2
)

// ClampMSS lowers the MSS option of a TCP SYN in frame to mss4 or mss6, in place, and reports
// whether it changed anything. It parses VLAN tags, IPv4 options and IPv6 extension headers. The
// checksum is updated incrementally (RFC 1624). partial says that the checksum is not complete yet
// (NEEDS_CSUM in virtio_net_hdr): its field then holds the sum of the pseudo-header only, which
// does not cover the option, and is left as it is.
//
// A SYN without the option is left alone: the other end then assumes 536 (RFC 9293 §3.7.1), which
// fits every path.
func ClampMSS(frame []byte, mss4, mss6 uint16, partial bool) bool {
	h, ok := Parse(frame)
	if !ok || h.EtherType != typeIPv4 && h.EtherType != typeIPv6 {
		return false
	}
	b := frame[h.Payload:]
	limit := mss4
	if h.EtherType == typeIPv6 {
		if limit = mss6; len(b) < ipv6Header || b[6] == protoUDP {
			return false
		}
	}
	s := segmentOf(b, h.EtherType)
	if !s.complete || s.later || s.proto != protoTCP || s.end-s.off < tcpMinHeader || b[s.off+13]&tcpSYN == 0 {
		return false
	}
	tcp := b[s.off:s.end]
	end := int(tcp[12]>>4) * 4
	if end < tcpMinHeader || end > len(tcp) {
		return false
	}
	at := findMSS(tcp[:end])
	if at == 0 {
		return false
	}
	old := binary.BigEndian.Uint16(tcp[at:])
	if old <= limit {
		return false
	}
	binary.BigEndian.PutUint16(tcp[at:], limit)
	if !partial {
		adjustChecksum(tcp[16:18], old, limit, at%2 == 1)
	}
	return true
}

// findMSS returns the offset of the MSS value in a TCP header; 0 if there is none or the options
// are malformed.
func findMSS(tcp []byte) int {
	for i := tcpMinHeader; i < len(tcp); {
		switch tcp[i] {
		case 0: // end of options
			return 0
		case 1: // no operation
			i++
			continue
		}
		if i+1 >= len(tcp) || tcp[i+1] < 2 || i+int(tcp[i+1]) > len(tcp) {
			return 0
		}
		if tcp[i] == tcpMaxMSS && tcp[i+1] == 4 {
			return i + 2
		}
		i += int(tcp[i+1])
	}
	return 0
}

// adjustChecksum updates an internet checksum for a 16-bit value that changes from old to new (RFC
// 1624 eqn. 3). odd says that the value straddles two words of the sum, which is equivalent to
// swapping its bytes.
func adjustChecksum(field []byte, old, new uint16, odd bool) {
	if odd {
		old, new = old<<8|old>>8, new<<8|new>>8
	}
	sum := uint32(^binary.BigEndian.Uint16(field)) + uint32(^old) + uint32(new)
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(field, ^uint16(sum))
}

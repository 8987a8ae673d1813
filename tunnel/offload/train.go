package offload

import "encoding/binary"

// train is a frame under construction: the first segment as it came, and the payloads of those that
// continue it.
type train struct {
	buf      []byte
	end      int // of the payload so far
	segments int
	from     uint32 // the origin of each
	gso      int    // payload of the first segment, and of all but the last
	head     segment
	nextSeq  uint32
	fixedID  bool  // the IPv4 ID stays the same instead of counting
	flags    uint8 // FIN and PSH of the last segment
}

// begin makes packet, which is in place, the first segment of t.
func (t *train) begin(packet []byte, s *segment) {
	t.head = *s
	t.end = VirtioHeaderLen + len(packet)
	t.segments = 1
	t.gso = len(packet) - s.headers
	t.fixedID, t.flags, t.nextSeq = false, 0, 0
	if s.kind == kindJoin && s.proto == protoTCP {
		l4 := packet[s.transport:]
		t.nextSeq = binary.BigEndian.Uint32(l4[4:]) + uint32(t.gso)
		t.flags = l4[13] & (tcpFIN | tcpPSH)
	}
}

// closed says that nothing can follow: data ended (PSH, FIN), or there is no room for another byte
// or datagram.
func (t *train) closed() bool {
	return t.flags != 0 || t.end-VirtioHeaderLen-t.head.network >= maxIPLen ||
		t.segments >= maxJoined || t.head.proto == protoUDP && t.segments >= maxDatagrams
}

// tcpFlags returns the TCP flags of a packet that continues t, and 0 for UDP.
func (t *train) tcpFlags(packet []byte) uint8 {
	if t.head.proto != protoTCP {
		return 0
	}
	return packet[t.head.transport+13]
}

// close makes the headers of a superpacket out of those of its first segment.
func (t *train) close(packet []byte) {
	s := &t.head
	ip, l4 := packet[s.network:], packet[s.transport:]
	if s.version == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], ^fold(ipv4Sum(ip)))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Header))
	}
	if s.proto == protoTCP {
		l4[13] |= t.flags
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
}

// partialChecksum leaves the checksum of packet to the kernel: only the sum of the pseudo-header is
// stored.
func partialChecksum(packet []byte, s *segment, h *VirtioHeader) {
	l4 := packet[s.transport:]
	h.Flags = NeedsChecksum
	h.HdrLen = uint16(s.headers) // the kernel's linear part: payload then goes to page fragments
	h.CsumStart = uint16(s.transport)
	h.CsumOffset = udpChecksum
	if s.proto == protoTCP {
		h.CsumOffset = tcpChecksum
	}
	sum := fold(pseudoSum(packet[s.network:], s.version, s.proto) + uint64(len(l4)))
	binary.BigEndian.PutUint16(l4[h.CsumOffset:], sum)
}

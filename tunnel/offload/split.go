package offload

import (
	"encoding/binary"

	"tund/internal/drop"
)

// ethernetPrefix is the first byte of the four that precede an Ethernet frame inside a session:
// payload kind 1 (docs/protocol.md). Byte 1 is zero, bytes 2-3 the length of the frame.
const (
	ethernetPrefix    = 0x10
	ethernetPrefixLen = 4
)

// maxHeaders bounds link, IP and transport headers of a superpacket together, IPv6 extension
// headers included: what has more (nothing in practice) is refused.
const maxHeaders = 512

// noLimit is an MTU above that of any device.
const noLimit = 1 << 20

// Splitter cuts one frame read from a device into padded segments, in place. It is reusable, does
// not allocate, and belongs to one loop. The zero value is ready.
//
// Segment i is built directly before its own payload: its headers are stamped over the end of
// segment i-1, which the caller has sealed into another buffer by then.
//
//	buf  | virtio hdr | headers | payload 0 | payload 1 | … | payload n-1 | spare (MaxPadding) |
//	               prefix‖headers‖payload 0‖pad
//	                         prefix‖headers‖payload 1‖pad
type Splitter struct {
	buf    []byte // the read and the capacity behind it
	end    int    // of the frame in buf
	prefix int    // bytes before each segment that are the caller's
	limit  int    // of the padded plaintext, prefix included
	total  int    // segments
	count  int    // of them, those that Next returns
	next   int    // the segment Next will return

	// Bytes of the next payload that padding has overwritten.
	saved    [MaxPadding]byte
	savedAt  int
	savedLen int

	// Of a superpacket only (mss > 0).
	mss       int // payload bytes of each segment but the last
	headers   int // bytes of all headers
	network   int // offset of the IP header in the segment
	transport int // offset of the TCP or UDP header in the segment
	version   uint8
	proto     uint8
	flags     uint8  // TCP flags of the superpacket
	id        uint16 // IPv4 ID of the first segment
	seq       uint32 // TCP sequence number of the first segment
	ipSum     uint64 // IPv4 header without length, ID and checksum
	pseudo    uint64 // pseudo-header without length
	template  [maxHeaders]byte
}

// Begin prepares the frame in buf, which is one read from the device: a virtio_net_hdr, then the
// frame.
//
// prefix is 0 or 4: the number of bytes before each segment that belong to the caller. With 4 they
// are the header of an Ethernet frame inside a session: Next sets them to 0x10, 0 and the length of
// the segment, big endian, and the caller may overwrite them before it seals. The virtio header in
// buf is destroyed.
//
// mtu is the largest IP packet in bytes. Padding to 16 stops there: a padded segment, prefix and
// link header included, is never longer than mtu+prefix+link header, unless the segment itself is.
// 0 means no such limit.
//
// buf should have a capacity of len(buf)+MaxPadding; without it the last segment is padded less.
// buf is borrowed until the next Begin. Begin trusts no field of the header: when header and frame
// contradict each other it returns drop.BadDevicePacket, and drop.TinySegments when far more would
// leave than was read; Next then has nothing.
func (s *Splitter) Begin(buf []byte, link Link, prefix, mtu int) drop.Reason {
	if mtu <= 0 {
		mtu = noLimit
	}
	if reason := s.begin(buf, link, prefix, mtu); reason != drop.None {
		return reason
	}
	if s.count > PartSegments && s.Excess() > 0 {
		s.count = 0
		return drop.TinySegments
	}
	return drop.None
}

// begin is Begin with the limit as it is: 0 means no padding.
func (s *Splitter) begin(buf []byte, link Link, prefix, limit int) drop.Reason {
	s.count, s.next, s.savedLen, s.mss = 0, 0, 0, 0
	if len(buf) < VirtioHeaderLen || uint(prefix) > VirtioHeaderLen {
		return drop.BadDevicePacket
	}
	frame := buf[VirtioHeaderLen:]
	offset, version := network(frame, link)
	if version == 0 && (link == IP || len(frame) < etherHeader) {
		return drop.BadDevicePacket
	}
	s.buf, s.end, s.prefix = buf[:cap(buf)], len(buf), prefix
	s.limit = 0
	if limit > 0 {
		s.limit = limit + offset + prefix
	}

	var h VirtioHeader
	h.Decode(buf)
	if h.GSOType != GSONone {
		return s.beginSuper(frame, &h, offset, version)
	}
	if h.Flags&NeedsChecksum != 0 && !complete(frame, int(h.CsumStart), int(h.CsumOffset)) {
		return drop.BadDevicePacket
	}
	s.count, s.total = 1, 1
	return drop.None
}

// Frame returns the frame given to Begin, or of a superpacket in parts the first one: the headers
// as they were read, and the payload of the segments that Next returns. It is valid until the first
// call of Next.
func (s *Splitter) Frame() []byte {
	if s.count < s.total {
		return s.buf[VirtioHeaderLen : VirtioHeaderLen+s.headers+s.count*s.mss]
	}
	return s.buf[VirtioHeaderLen:s.end]
}

// complete sums frame from start and stores the checksum at start+offset, where the sum of the
// pseudo-header is. It reports false when that is outside the frame.
func complete(frame []byte, start, offset int) bool {
	at := start + offset
	if at+2 > len(frame) {
		return false
	}
	// A sum that comes out as zero is written as 0xffff for every protocol, as the kernel does: it
	// is the same number, and zero would mean "no checksum" to UDP (RFC 768).
	binary.BigEndian.PutUint16(frame[at:], nonZero(^fold(Sum(frame[start:], 0))))
	return true
}

// nonZero replaces a zero checksum by its other form.
func nonZero(sum uint16) uint16 {
	if sum == 0 {
		return 0xffff
	}
	return sum
}

// beginSuper checks a superpacket against its header and keeps what Next needs.
func (s *Splitter) beginSuper(frame []byte, h *VirtioHeader, network int, version uint8) drop.Reason {
	if version == 0 || h.GSOSize == 0 {
		return drop.BadDevicePacket
	}
	ip := frame[network:]
	offset, proto, plain, ok := transport(ip, version)
	if !ok {
		return drop.BadDevicePacket
	}
	l4 := ip[offset:]
	var size, checksum int
	switch h.GSOType {
	case GSOTCPv4, GSOTCPv4 | GSOECN, GSOTCPv6, GSOTCPv6 | GSOECN:
		if proto != protoTCP || (h.GSOType&^GSOECN == GSOTCPv4) != (version == 4) || len(l4) < tcpHeader {
			return drop.BadDevicePacket
		}
		size, checksum = int(l4[12]>>4)*4, tcpChecksum
		if size < tcpHeader || size > len(l4) {
			return drop.BadDevicePacket
		}
		s.seq, s.flags = binary.BigEndian.Uint32(l4[4:]), l4[13]
	case GSOUDP:
		if proto != protoUDP || len(l4) < udpHeader {
			return drop.BadDevicePacket
		}
		size, checksum = udpHeader, udpChecksum
	default:
		return drop.BadDevicePacket
	}
	partial := h.Flags&NeedsChecksum != 0
	if partial && (int(h.CsumStart) != network+offset || int(h.CsumOffset) != checksum) || !lengthFits(ip, version) {
		return drop.BadDevicePacket
	}
	s.network, s.transport, s.headers = network, network+offset, network+offset+size
	if s.headers > maxHeaders {
		return drop.BadDevicePacket
	}
	s.version, s.proto, s.mss = version, proto, int(h.GSOSize)

	s.pseudo = pseudoSum(ip, version, proto)
	if !plain && partial {
		// A routing header or a source route changes the destination that the pseudo-header names.
		// The sender's sum knows; take the whole length out of it.
		s.pseudo = uint64(binary.BigEndian.Uint16(l4[checksum:])) + uint64(^uint16(len(l4)))
	}
	s.prepare(frame, checksum)
	s.count = 1
	if payload := len(frame) - s.headers; payload > s.mss {
		s.count = (payload + s.mss - 1) / s.mss
	}
	s.total = s.count
	return drop.None
}

// lengthFits says whether the IP length is that of ip, or zero as in a superpacket above 64 KiB. A
// stale virtio header, or bytes behind the packet, would otherwise become part of somebody's
// stream.
func lengthFits(ip []byte, version uint8) bool {
	if version == 4 {
		n := int(binary.BigEndian.Uint16(ip[2:]))
		return n == len(ip) || n == 0
	}
	n := int(binary.BigEndian.Uint16(ip[4:]))
	return n == len(ip)-ipv6Header || n == 0
}

// prepare copies the headers, with the fields that differ between segments zeroed and their sums
// taken.
func (s *Splitter) prepare(frame []byte, checksum int) {
	t := s.template[:s.headers]
	copy(t, frame)
	binary.BigEndian.PutUint16(t[s.transport+checksum:], 0)
	if s.version == 4 {
		ip := t[s.network:]
		s.id = binary.BigEndian.Uint16(ip[4:])
		binary.BigEndian.PutUint32(ip[2:], 0) // length, ID
		binary.BigEndian.PutUint16(ip[10:], 0)
		s.ipSum = Sum(ip[:s.transport-s.network], 0)
	}
}

// Count returns the number of segments of the frame given to Begin, or of its first part after
// Part: 0 when it was refused.
func (s *Splitter) Count() int { return s.count }

// Longest returns the length in bytes of the longest segment of the frame given to Begin, without
// prefix and padding.
func (s *Splitter) Longest() int {
	whole := s.end - VirtioHeaderLen
	if s.mss > 0 {
		return min(whole, s.headers+s.mss)
	}
	return whole
}

// IsTCP reports whether Begin was given a TCP superpacket.
func (s *Splitter) IsTCP() bool { return s.mss > 0 && s.proto == protoTCP }

// MarkCE sets "congestion experienced" in every segment of a superpacket whose ends understand it
// (RFC 3168 §5), and reports whether they do. It is called between Begin and Next.
func (s *Splitter) MarkCE() bool {
	if s.mss == 0 {
		return false
	}
	ip := s.template[s.network:]
	if s.version == 4 {
		if ip[1]&3 == 0 {
			return false
		}
		s.ipSum += uint64(3 &^ ip[1])
		ip[1] |= 3
		return true
	}
	if ip[1]&0x30 == 0 { // the traffic class lies across the first two bytes
		return false
	}
	ip[1] |= 0x30
	return true
}

// Next returns the next segment: the caller's prefix, headers, payload and zero padding in one
// slice of the buffer given to Begin, and its length without the padding. Both are valid until the
// following call. The caller may change the slice. After the last segment it returns nil and 0.
func (s *Splitter) Next() (padded []byte, length int) {
	if s.savedLen > 0 {
		copy(s.buf[s.savedAt:], s.saved[:s.savedLen])
		s.savedLen = 0
	}
	if s.next >= s.count {
		return nil, 0
	}
	packet := VirtioHeaderLen
	end := s.end
	if s.mss > 0 {
		packet += s.next * s.mss
		if s.next < s.total-1 {
			end = packet + s.headers + s.mss
		}
		s.stamp(s.buf[packet:end])
	}
	s.next++

	start := packet - s.prefix
	if s.prefix > 0 {
		s.stampPrefix(s.buf[start:packet], end-packet)
	}
	length = end - start
	stop := start + min((length+MaxPadding)&^MaxPadding, max(length, s.limit))
	stop = min(stop, len(s.buf))
	if stop > end {
		if end < s.end {
			s.savedAt = end
			s.savedLen = copy(s.saved[:], s.buf[end:stop])
		}
		clear(s.buf[end:stop])
	}
	return s.buf[start:stop], length
}

// stampPrefix fills the bytes before a segment of the given length.
func (s *Splitter) stampPrefix(b []byte, length int) {
	clear(b)
	if len(b) == ethernetPrefixLen {
		b[0] = ethernetPrefix
		binary.BigEndian.PutUint16(b[2:], uint16(length))
	}
}

// stamp writes the headers of segment s.next to the front of p, whose payload is in place.
func (s *Splitter) stamp(p []byte) {
	copy(p, s.template[:s.headers])
	ip, l4 := p[s.network:], p[s.transport:]
	if s.version == 4 {
		id := s.id + uint16(s.next)
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], id)
		binary.BigEndian.PutUint16(ip[10:], ^fold(s.ipSum+uint64(len(ip))+uint64(id)))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Header))
	}
	if s.proto == protoTCP {
		binary.BigEndian.PutUint32(l4[4:], s.seq+uint32(s.next*s.mss))
		flags := s.flags
		if s.next > 0 {
			flags &^= tcpCWR // told once
		}
		if s.next < s.total-1 {
			flags &^= tcpFIN | tcpPSH // belong to the end of the data
		}
		l4[13] = flags
		binary.BigEndian.PutUint16(l4[tcpChecksum:], ^fold(Sum(l4, s.pseudo+uint64(len(l4)))))
		return
	}
	binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	binary.BigEndian.PutUint16(l4[udpChecksum:], nonZero(^fold(Sum(l4, s.pseudo+uint64(len(l4))))))
}

// Plain cuts frame, a virtio_net_hdr and a frame as given to a device's Write, into frames that any
// device takes: each is handed to emit with an all-zero virtio_net_hdr, one packet, and complete
// checksums. It is the way out when a device refuses a superpacket at run time. frame is
// overwritten; emit borrows its slice until it returns.
func (s *Splitter) Plain(frame []byte, link Link, emit func(frame []byte)) drop.Reason {
	frame = frame[:len(frame):len(frame)]
	if reason := s.begin(frame, link, VirtioHeaderLen, 0); reason != drop.None {
		return reason
	}
	for range s.count {
		b, _ := s.Next()
		emit(b)
	}
	return drop.None
}

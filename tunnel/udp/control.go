package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control messages (cmsg): a header of a native word and two 32-bit numbers, then data, each padded
// to a native word.
//
//	0            word        word+4  word+8
//	length ‖ level (i32) ‖ type (i32) ‖ data …
//
// Sources: cmsg(3), RFC 3542 §20.2.
const (
	word       = int(unsafe.Sizeof(uintptr(0)))
	headerSize = word + 8

	segmentData = 2  // UDP_SEGMENT: u16
	classData   = 4  // IP_TOS and IPV6_TCLASS as sent: i32
	info6Data   = 20 // IPV6_PKTINFO: address (16), interface (u32)
	info4Data   = 12 // IP_PKTINFO: interface (i32), local address (4), address in the header (4)
)

// controlSpace holds the control messages of one message, received (pktinfo, UDP_GRO, SO_RXQ_OVFL,
// traffic class) or sent (UDP_SEGMENT, pktinfo, traffic class), with room to spare: SO_TIMESTAMP
// and the like set from outside must not cut ours.
const controlSpace = 160

// align rounds n up to a native word.
func align(n int) int { return (n + word - 1) &^ (word - 1) }

// control is what the control messages of one received message said.
type control struct {
	segment  int        // UDP_GRO; 0: not a train
	drops    uint32     // SO_RXQ_OVFL, since the socket was opened, modulo 2^32
	hasDrops bool       //
	dst      netip.Addr // local address, unmapped; invalid: not told
	ifindex  uint32     // interface it came in by
	class    uint8      // traffic class
}

// parseControl reads the control messages in b. It stops at what makes no sense and ignores what it
// does not know, so every input is good for something; it allocates nothing.
func parseControl(b []byte) (c control) {
	for len(b) >= headerSize {
		level, kind, data, rest, ok := nextControl(b)
		if !ok {
			return c
		}
		c.take(level, kind, data)
		b = rest
	}
	return c
}

// nextControl cuts the first control message off b, which holds at least a header; ok is false when
// it makes no sense.
func nextControl(b []byte) (level, kind int32, data, rest []byte, ok bool) {
	length := uint64(binary.NativeEndian.Uint32(b))
	if word == 8 {
		length = binary.NativeEndian.Uint64(b)
	}
	if length < uint64(headerSize) || length > uint64(len(b)) {
		return 0, 0, nil, nil, false
	}
	level = int32(binary.NativeEndian.Uint32(b[word:]))
	kind = int32(binary.NativeEndian.Uint32(b[word+4:]))
	return level, kind, b[headerSize:length], b[min(align(int(length)), len(b)):], true
}

// take reads one control message.
func (c *control) take(level, kind int32, data []byte) {
	switch {
	case level == unix.SOL_UDP && kind == unix.UDP_GRO && len(data) >= 4:
		c.segment = max(0, int(int32(binary.NativeEndian.Uint32(data))))
	case level == unix.SOL_IP && kind == unix.IP_TOS && len(data) >= 1:
		c.class = data[0] // the kernel hands out one byte
	case level == unix.SOL_IPV6 && kind == unix.IPV6_TCLASS && len(data) >= 4:
		c.class = uint8(binary.NativeEndian.Uint32(data))
	case level == unix.SOL_SOCKET && kind == unix.SO_RXQ_OVFL && len(data) >= 4:
		c.drops, c.hasDrops = binary.NativeEndian.Uint32(data), true
	case level == unix.SOL_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= info6Data:
		c.dst = netip.AddrFrom16([16]byte(data[:16])).Unmap()
		c.ifindex = binary.NativeEndian.Uint32(data[16:])
	case level == unix.SOL_IP && kind == unix.IP_PKTINFO && len(data) >= info4Data:
		c.ifindex = binary.NativeEndian.Uint32(data)
		c.dst = netip.AddrFrom4([4]byte(data[8:12]))
	}
}

// putHeader writes a control message's header at b[at:] and returns its data part and where the
// next begins.
func putHeader(b *[controlSpace]byte, at int, level, kind int32, size int) (data []byte, next int) {
	length := headerSize + size
	if word == 8 {
		binary.NativeEndian.PutUint64(b[at:], uint64(length))
	} else {
		binary.NativeEndian.PutUint32(b[at:], uint32(length))
	}
	binary.NativeEndian.PutUint32(b[at+word:], uint32(level))
	binary.NativeEndian.PutUint32(b[at+word+4:], uint32(kind))
	return b[at+headerSize : at+length], at + align(length)
}

// putSegment appends UDP_SEGMENT.
func putSegment(b *[controlSpace]byte, at, segment int) int {
	data, next := putHeader(b, at, unix.SOL_UDP, unix.UDP_SEGMENT, segmentData)
	binary.NativeEndian.PutUint16(data, uint16(segment))
	return next
}

// putClass appends the traffic class for a receiver of either family: on an AF_INET6 socket the
// kernel reads IP_TOS for a mapped address (net/ipv4/ip_sockglue.c, ip_cmsg_send).
func putClass(b *[controlSpace]byte, at int, class uint8, v4 bool) int {
	level, kind := int32(unix.SOL_IPV6), int32(unix.IPV6_TCLASS)
	if v4 {
		level, kind = unix.SOL_IP, unix.IP_TOS
	}
	data, next := putHeader(b, at, level, kind, classData)
	binary.NativeEndian.PutUint32(data, uint32(class))
	return next
}

// putSource appends the local address to send from. On an AF_INET6 socket that is IPV6_PKTINFO for
// both families: the kernel takes a mapped address for an IPv4 receiver (net/ipv4/ip_sockglue.c,
// ip_cmsg_send).
func putSource(b *[controlSpace]byte, at int, source netip.Addr, ifindex uint32, v6 bool) int {
	if v6 {
		data, next := putHeader(b, at, unix.SOL_IPV6, unix.IPV6_PKTINFO, info6Data)
		addr := source.As16()
		copy(data, addr[:])
		binary.NativeEndian.PutUint32(data[16:], ifindex)
		return next
	}
	data, next := putHeader(b, at, unix.SOL_IP, unix.IP_PKTINFO, info4Data)
	addr := source.As4()
	binary.NativeEndian.PutUint32(data, ifindex)
	copy(data[4:8], addr[:])
	clear(data[8:12])
	return next
}

package lane

import (
	"encoding/binary"
	"sync/atomic"

	"tund/tunnel/offload"
)

// Traffic classes: of the packets inside, and of the datagrams that carry them. ECN crosses the
// tunnel as RFC 6040 says ("normal mode"), as with the kernel's WireGuard; DSCP as configured.

// The bits of a traffic class (RFC 2474, RFC 3168 §5).
const (
	ecnBits = 0x03 // 0: the ends know nothing of ECN
	ecnCE   = 0x03 // congestion experienced
)

// CopyDSCP makes datagrams carry the DSCP of the packet inside.
const CopyDSCP = -1

// DSCP is which differentiated services code point our datagrams carry: 0 to 63, or CopyDSCP. The
// zero value is 0. It may be changed while packets pass.
type DSCP struct{ value atomic.Int32 }

// Set changes it.
func (d *DSCP) Set(value int) { d.value.Store(int32(value)) }

// plain returns the class of a datagram without a packet inside.
func (d *DSCP) plain() uint8 { return uint8(max(d.value.Load(), 0)) << 2 }

// of returns the class of a datagram that carries ip, which may be anything but is an IP packet in
// the usual case.
func (d *DSCP) of(ip []byte) uint8 {
	inner, ok := classOf(ip)
	value := d.value.Load()
	switch {
	case !ok:
		return uint8(max(value, 0)) << 2
	case value == CopyDSCP:
		return inner
	}
	return uint8(value)<<2 | inner&ecnBits
}

// classOf returns the traffic class of an IP packet.
func classOf(ip []byte) (class uint8, ok bool) {
	if len(ip) < minIP {
		return 0, false
	}
	switch ip[0] >> 4 {
	case 4:
		return ip[1], true
	case 6: // across the first two bytes
		return ip[0]<<4 | ip[1]>>4, true
	}
	return 0, false
}

// minIP is the length of the shorter of the two headers.
const minIP = 20

// meetCongestion hands a mark that a datagram got on its way on to the IP packet it carried. It
// returns false if the ends of that know nothing of ECN, so that only a loss tells them: such a
// packet is to be dropped (RFC 6040 §4.2).
func meetCongestion(ip []byte) bool {
	class, ok := classOf(ip)
	switch {
	case !ok || class&ecnBits == ecnCE:
		return true
	case class&ecnBits == 0:
		return false
	case ip[0]>>4 == 6:
		ip[1] |= ecnCE << 4
		return true
	}
	// RFC 1624, equation 3, of the word with the version and the class.
	sum := uint32(^binary.BigEndian.Uint16(ip[10:])) + uint32(^binary.BigEndian.Uint16(ip))
	ip[1] |= ecnCE
	sum += uint32(binary.BigEndian.Uint16(ip))
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum&0xffff))
	return true
}

// ipIn returns the IP packet in what a device gets, nil if there is none.
func ipIn(packet []byte, link offload.Link) []byte {
	if link == offload.Ethernet {
		return inFrame(packet)
	}
	return packet
}

// inFrame returns the IP packet in an Ethernet frame, nil if there is none.
func inFrame(frame []byte) []byte {
	const macs, tag = 12, 4
	at := macs
	for range 2 { // VLAN tags
		if len(frame) < at+tag {
			return nil
		}
		switch binary.BigEndian.Uint16(frame[at:]) {
		case 0x0800, 0x86dd:
			return frame[at+2:]
		case 0x8100, 0x88a8:
			at += tag
		default:
			return nil
		}
	}
	if len(frame) < at+2 || binary.BigEndian.Uint16(frame[at:]) != 0x0800 && binary.BigEndian.Uint16(frame[at:]) != 0x86dd {
		return nil
	}
	return frame[at+2:]
}

package l2

import (
	"encoding/binary"

	"tund/internal/drop"
	"tund/internal/names"
)

// MAC addresses shared by several routers.
//
// VRRP, CARP, HSRP and GLBP give a group of routers one MAC, which the elected router uses. While
// the tunnel is down each site elects a router of its own, and each switch has learned the address
// on its own side and rightly refuses it elsewhere. But what makes one of the two routers step down
// is a message from that very address. Therefore the election messages are forwarded. Unless one
// of VRRP shows that the owner has lost (vrrp.go), nothing is learned from them, and the owner of
// the address is challenged as usual (claim.go).
//
// What an attacker gains: the bridge behind the TAP learns the address from such a message, as any
// bridge would, and sends frames for it to the TAP until the owner sends its next frame. But
// whoever can send election messages can also win the election, which gains more. Pinned addresses
// remain refused.

// Protocols, groups and ports of the elections: RFC 9568 §5.1, RFC 2281 §3, and the IANA registries
// of IP protocols, multicast addresses and ports. CARP uses the protocol, group and MAC addresses
// of VRRP.
const (
	protoVRRP = 112

	groupVRRP  = 0xe0000012 // 224.0.0.18
	groupHSRP  = 0xe0000002 // 224.0.0.2
	groupHSRP2 = 0xe0000066 // 224.0.0.102, GLBP's as well
	group6VRRP = 0x12       // ff02::12
	group6HSRP = 0x66       // ff02::66, GLBP's as well

	portHSRP  = 1985
	portHSRP6 = 2029
	portGLBP  = 3222
)

// virtualMAC reports whether m is one of the addresses that the routers of a group share.
func virtualMAC(m MAC) bool {
	if m>>40 != 0 {
		return false
	}
	var b [6]byte
	m.Put(b[:])
	return names.SharedStation(b)
}

// election reports whether the frame is a message from a shared address to the other routers of its
// group.
func election(frame []byte, h *Header) bool {
	if !h.Dst.Group() || !virtualMAC(h.Src) || h.nested() {
		return false
	}
	b := frame[h.Payload:]
	switch h.EtherType {
	case typeIPv4:
		if len(b) < ipv4MinHeader {
			return false
		}
		group := binary.BigEndian.Uint32(b[16:])
		return h.Dst == 0x01005e_000000|MAC(group&0x7fffff) && electionTo4(segment4(b), b, group)
	case typeIPv6:
		if len(b) < ipv6Header || h.Dst != multicastMAC6(b[24:]) {
			return false
		}
		high, low := binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])
		return high == 0xff02<<48 && electionTo6(segment6(b), b, low)
	}
	return false
}

// electionPasses reports whether a frame is forwarded although its source was refused for reason.
func (s *Switch) electionPasses(f *frameInfo, reason drop.Reason) bool {
	if reason != drop.SourceForeign && reason != drop.MACFrozen || !election(f.p.Frame, &f.h) {
		return false
	}
	e, _, ok := s.fdb.find(entryKey(f.vid, f.h.Src))
	return ok && e&flagStatic == 0
}

func electionTo4(s segment, b []byte, group uint32) bool {
	if !s.complete || s.fragment {
		return false
	}
	switch group {
	case groupVRRP:
		ah := s.proto == protoAH && s.end > s.off && b[s.off] == protoVRRP // RFC 2338 §5.3.6
		return b[8] == 255 && (s.proto == protoVRRP || ah)
	case groupHSRP:
		return isUDPTo(s, b, portHSRP)
	case groupHSRP2:
		return isUDPTo(s, b, portHSRP) || isUDPTo(s, b, portGLBP)
	}
	return false
}

func electionTo6(s segment, b []byte, group uint64) bool {
	if !s.complete || s.fragment {
		return false
	}
	switch group {
	case group6VRRP:
		return b[7] == 255 && s.proto == protoVRRP
	case group6HSRP:
		return isUDPTo(s, b, portHSRP6) || isUDPTo(s, b, portGLBP)
	}
	return false
}

// isUDPTo reports whether the segment of packet b is UDP to port.
func isUDPTo(s segment, b []byte, port uint16) bool {
	return s.proto == protoUDP && s.end-s.off >= 8 && binary.BigEndian.Uint16(b[s.off+2:]) == port
}

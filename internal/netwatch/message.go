package netwatch

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"tund/internal/rtnl"
)

// RouteMessage is the part of an RTM_NEWROUTE or RTM_DELROUTE message that tund needs.
type RouteMessage struct {
	Dst      netip.Prefix
	Table    uint32
	Metric   uint32
	MTU      int        // that it sets, in bytes; 0: none
	Index    int        // of the outgoing link; 0 for none or several
	Gateway  netip.Addr // invalid: none, or several
	Protocol uint8
	Type     uint8 // RTN_UNICAST and so on
	Cloned   bool  // an entry of the route cache
}

// ParseRoute reads a struct rtmsg and its attributes (rtnetlink(7)). ok is false for a message
// that is too short or of another address family. b is not kept.
func ParseRoute(b []byte) (r RouteMessage, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	family, bits := b[0], int(b[1])
	r.Table, r.Protocol, r.Type = uint32(b[4]), b[5], b[7]
	r.Cloned = binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0
	addr, ok := unspecified(family)
	if !ok || bits > addr.BitLen() {
		return r, false
	}
	for typ, value := range rtnl.Attributes(b[unix.SizeofRtMsg:]) {
		switch {
		case typ == unix.RTA_DST && len(value) == addr.BitLen()/8:
			addr, _ = netip.AddrFromSlice(value)
		case typ == unix.RTA_TABLE && len(value) == 4:
			r.Table = binary.NativeEndian.Uint32(value)
		case typ == unix.RTA_PRIORITY && len(value) == 4:
			r.Metric = binary.NativeEndian.Uint32(value)
		case typ == unix.RTA_METRICS:
			r.MTU = mtuOf(value)
		case typ == unix.RTA_OIF && len(value) == 4:
			r.Index = int(binary.NativeEndian.Uint32(value))
		case typ == unix.RTA_GATEWAY && len(value) == addr.BitLen()/8:
			r.Gateway, _ = netip.AddrFromSlice(value)
		case typ == unix.RTA_VIA && len(value) == 2+16: // IPv4 via IPv6 (RFC 5549): family, address
			r.Gateway, _ = netip.AddrFromSlice(value[2:])
		}
	}
	r.Dst = netip.PrefixFrom(addr, bits)
	return r, true
}

// mtuOf returns the MTU among the metrics of a route, in bytes; 0: there is none.
func mtuOf(metrics []byte) (mtu int) {
	for typ, value := range rtnl.Attributes(metrics) {
		if typ == unix.RTAX_MTU && len(value) == 4 {
			mtu = int(binary.NativeEndian.Uint32(value))
		}
	}
	return mtu
}

// unspecified returns the zero address of an address family; ok is false for all but IPv4 and IPv6.
func unspecified(family uint8) (addr netip.Addr, ok bool) {
	switch family {
	case unix.AF_INET:
		return netip.IPv4Unspecified(), true
	case unix.AF_INET6:
		return netip.IPv6Unspecified(), true
	}
	return addr, false
}

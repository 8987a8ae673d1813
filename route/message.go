package route

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// routeMessage is what we need of an RTM_NEWROUTE or RTM_DELROUTE.
type routeMessage struct {
	dst      netip.Prefix
	table    uint32
	metric   uint32
	index    int // of the outgoing link, 0 for none or several
	protocol uint8
	kind     uint8 // RTN_*
	cloned   bool  // an entry of the route cache
}

// parseRoute reads a struct rtmsg and its attributes: rtnetlink(7). ok is false for what is too short or of
// another address family.
func parseRoute(b []byte) (r routeMessage, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	family, bits := b[0], int(b[1])
	r.table, r.protocol, r.kind = uint32(b[4]), b[5], b[7]
	r.cloned = binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0
	var addr netip.Addr
	switch family {
	case unix.AF_INET:
		addr = netip.IPv4Unspecified()
	case unix.AF_INET6:
		addr = netip.IPv6Unspecified()
	default:
		return r, false
	}
	if bits > addr.BitLen() {
		return r, false
	}
	for typ, value := range attributes(b[unix.SizeofRtMsg:]) {
		switch {
		case typ == unix.RTA_DST && len(value) == addr.BitLen()/8:
			addr, _ = netip.AddrFromSlice(value)
		case typ == unix.RTA_TABLE && len(value) == 4:
			r.table = binary.NativeEndian.Uint32(value)
		case typ == unix.RTA_PRIORITY && len(value) == 4:
			r.metric = binary.NativeEndian.Uint32(value)
		case typ == unix.RTA_OIF && len(value) == 4:
			r.index = int(binary.NativeEndian.Uint32(value))
		}
	}
	r.dst = netip.PrefixFrom(addr, bits)
	return r, true
}

// attributes yields the netlink attributes in b: struct nlattr, 4-byte aligned; netlink(7). It stops at the
// first that does not fit. Values point into b. Flag bits of the type are cleared.
func attributes(b []byte) func(yield func(typ uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofNlAttr || size > len(b) {
				return
			}
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

package l3

import (
	"encoding/binary"
	"net/netip"
)

// Header lengths and offsets: RFC 791 §3.1, RFC 8200 §3.
const (
	IPv4HeaderLen = 20
	IPv6HeaderLen = 40
)

// Header is what cryptokey routing needs of an IP packet.
type Header struct {
	Src, Dst netip.Addr
	Length   int // total length by the header, in bytes
}

// ParseHeader reads the header of pkt, which may be followed by padding. It returns false unless
// pkt is IPv4 or IPv6 with a header that fits and a total length that pkt holds. Options, extension
// headers and checksums are the business of the kernel that gets the packet.
func ParseHeader(pkt []byte) (h Header, ok bool) {
	if len(pkt) < IPv4HeaderLen {
		return h, false
	}
	switch pkt[0] >> 4 {
	case 4:
		h.Length = int(binary.BigEndian.Uint16(pkt[2:]))
		if h.Length < IPv4HeaderLen || h.Length > len(pkt) {
			return h, false
		}
		h.Src = netip.AddrFrom4([4]byte(pkt[12:16]))
		h.Dst = netip.AddrFrom4([4]byte(pkt[16:20]))
		return h, true
	case 6:
		if len(pkt) < IPv6HeaderLen {
			return h, false
		}
		h.Length = IPv6HeaderLen + int(binary.BigEndian.Uint16(pkt[4:]))
		if h.Length > len(pkt) {
			return h, false
		}
		h.Src = netip.AddrFrom16([16]byte(pkt[8:24]))
		h.Dst = netip.AddrFrom16([16]byte(pkt[24:40]))
		return h, true
	}
	return h, false
}

// ParseDestination reads only the destination of pkt, which the device has checked to be a whole
// packet.
func ParseDestination(pkt []byte) (netip.Addr, bool) {
	switch {
	case len(pkt) >= IPv4HeaderLen && pkt[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(pkt[16:20])), true
	case len(pkt) >= IPv6HeaderLen && pkt[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(pkt[24:40])), true
	}
	return netip.Addr{}, false
}

package l3

import (
	"encoding/binary"
	"net/netip"
)

const (
	protocolICMP, protocolICMPv6 = 1, 58

	icmpHeaderLen = 8
	// quote4 and quote6 are the sizes of the largest error messages, in bytes, with what they quote
	// of the packet: 576 (RFC 1812 §4.3.2.3) and 1,280 (RFC 4443 §2.4).
	quote4, quote6 = 576, 1280

	dontFragment   = 0x40 // in the first byte of the fragment field of IPv4
	moreFragments  = 0x20
	fragmentOffset = 0x1fff // of the field
)

// MayFragment reports whether a router may fragment pkt, which ParseDestination has accepted: an
// IPv4 packet without DF and without options.
func MayFragment(pkt []byte) bool { return pkt[0] == 0x45 && pkt[6]&dontFragment == 0 }

// IsICMP reports whether pkt, which ParseDestination has accepted, is ICMP or, without extension
// headers, ICMPv6.
func IsICMP(pkt []byte) bool {
	return pkt[0]>>4 == 4 && pkt[9] == protocolICMP || pkt[0]>>4 == 6 && pkt[6] == protocolICMPv6
}

// Fragment cuts an IPv4 packet for which MayFragment is true into two fragments of at most limit
// bytes each, as RFC 791 §3.2 describes. They are written into first and second, whose memory is
// used again if it suffices. ok is false if two are not enough.
func Fragment(first, second, pkt []byte, limit int) (_, _ []byte, ok bool) {
	body := pkt[IPv4HeaderLen:]
	n := (limit - IPv4HeaderLen) &^ 7
	if n <= 0 || IPv4HeaderLen+len(body)-n > limit || n >= len(body) {
		return first, second, false
	}
	field := binary.BigEndian.Uint16(pkt[6:])
	first = append(append(first[:0], pkt[:IPv4HeaderLen]...), body[:n]...)
	second = append(append(second[:0], pkt[:IPv4HeaderLen]...), body[n:]...)
	binary.BigEndian.PutUint16(first[6:], field|moreFragments<<8)
	binary.BigEndian.PutUint16(second[6:], field&^fragmentOffset|(field+uint16(n/8))&fragmentOffset)
	for _, f := range [][]byte{first, second} {
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		binary.BigEndian.PutUint16(f[10:], 0)
		binary.BigEndian.PutUint16(f[10:], ^fold(sum(f[:IPv4HeaderLen], 0)))
	}
	return first, second, true
}

// AppendTooBig appends to b the ICMP message by which a router tells the sender of pkt that the
// next hop takes packets of at most mtu bytes: "fragmentation needed" (RFC 792, RFC 1191 §4) or
// "packet too big" (RFC 4443 §3.2). ok is false if the sender must not be told: it is no single
// host, pkt is an error message itself, or a fragment other than the first.
//
// The message comes from the destination of pkt. A router would use an address of its own; but ours
// belong to the host that gets the message from its TUN device, and a packet with a source address
// of its own is dropped there as a martian. What lies behind the peer is expected from this device,
// so that the message passes reverse path filters as well.
func AppendTooBig(b, pkt []byte, mtu int) (_ []byte, ok bool) {
	h, ok := ParseHeader(pkt)
	if !ok || !single(h.Src) {
		return b, false
	}
	if h.Src.Is4() {
		return appendTooBig4(b, pkt, &h, mtu)
	}
	return appendTooBig6(b, pkt, &h, mtu)
}

// single reports whether a is the address of one host.
func single(a netip.Addr) bool {
	return !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func appendTooBig4(b, pkt []byte, h *Header, mtu int) (_ []byte, ok bool) {
	header := int(pkt[0]&15) * 4
	if !single(h.Dst) || header < IPv4HeaderLen || len(pkt) < header+icmpHeaderLen ||
		binary.BigEndian.Uint16(pkt[6:])&fragmentOffset != 0 {
		return b, false
	}
	if pkt[9] == protocolICMP {
		switch pkt[header] {
		case 0, 8, 13, 14: // echo and timestamp: no errors
		default:
			return b, false
		}
	}
	quoted := pkt[:min(len(pkt), quote4-IPv4HeaderLen-icmpHeaderLen)]
	start := len(b)
	b = append(b, 0x45, 0xc0, 0, 0, 0, 0, 0, 0, 64, protocolICMP, 0, 0) // DSCP CS6, as routers send
	b = append(append(b, pkt[16:20]...), pkt[12:16]...)
	b = append(b, 3, 4, 0, 0, 0, 0, byte(mtu>>8), byte(mtu))
	b = append(b, quoted...)
	m := b[start:]
	binary.BigEndian.PutUint16(m[2:], uint16(len(m)))
	binary.BigEndian.PutUint16(m[10:], ^fold(sum(m[:IPv4HeaderLen], 0)))
	binary.BigEndian.PutUint16(m[IPv4HeaderLen+2:], ^fold(sum(m[IPv4HeaderLen:], 0)))
	return b, true
}

func appendTooBig6(b, pkt []byte, h *Header, mtu int) (_ []byte, ok bool) {
	isError := pkt[6] == protocolICMPv6 && len(pkt) > IPv6HeaderLen && pkt[IPv6HeaderLen] < 128
	if isError || !single(h.Dst) { // for multicast there is no address that it could come from
		return b, false
	}
	quoted := pkt[:min(len(pkt), quote6-IPv6HeaderLen-icmpHeaderLen)]
	length := icmpHeaderLen + len(quoted)
	start := len(b)
	b = append(b, 0x60, 0, 0, 0, byte(length>>8), byte(length), protocolICMPv6, 64)
	b = append(append(b, h.Dst.AsSlice()...), pkt[8:24]...)
	b = append(b, 2, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(mtu))
	b = append(b, quoted...)
	m := b[start:]
	pseudo := sum(m[8:IPv6HeaderLen], uint32(length)+protocolICMPv6)
	binary.BigEndian.PutUint16(m[IPv6HeaderLen+2:], ^fold(sum(m[IPv6HeaderLen:], pseudo)))
	return b, true
}

// sum adds the 16-bit words of b to a sum (RFC 1071). It is not for the packet path.
func sum(b []byte, s uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

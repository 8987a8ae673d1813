package l2

import "encoding/binary"

// neighborMessage is what an ARP packet, a neighbour solicitation or a neighbour advertisement
// says.
type neighborMessage struct {
	v6     bool
	ask    bool     // a request for target that wants an answer
	check  bool     // a unicast request by which a host checks that its neighbour still has target
	probe  bool     // a probe for duplicates: the sender intends to use target
	mac    MAC      // MAC of the host whose binding it states; 0: none
	ip     [16]byte // address of that host
	target [16]byte // address that is requested
	advert bool
	router bool
}

func mapped4(b []byte) (ip [16]byte) {
	ip[10], ip[11] = 0xff, 0xff
	copy(ip[12:], b[:4])
	return ip
}

// parseNeighbor parses ARP or neighbour discovery in the frame with header h, and reports whether
// it was either. A binding is accepted only if the sender inside the packet is the sender of the
// frame.
func parseNeighbor(frame []byte, h *Header, m *neighborMessage) bool {
	b := frame[h.Payload:]
	switch h.EtherType {
	case typeARP:
		return parseARP(b, h, m)
	case typeIPv6:
		if len(b) < ipv6Header || b[6] != protoICMPv6 || b[7] != 255 {
			// RFC 4861 §7.1: a hop limit of 255 shows that no router was passed. Extension headers
			// do not occur in practice.
			return false
		}
		return parseND(b, h, m)
	}
	return false
}

// parseARP parses ARP for Ethernet and IPv4 (RFC 826).
func parseARP(b []byte, h *Header, m *neighborMessage) bool {
	if len(b) < 28 || binary.BigEndian.Uint64(b)>>16 != 0x0001_0800_06_04 {
		return false
	}
	op := binary.BigEndian.Uint16(b[6:])
	if op != 1 && op != 2 {
		return false
	}
	sender, target := binary.BigEndian.Uint32(b[14:]), binary.BigEndian.Uint32(b[24:])
	if MACFromBytes(b[8:]) == h.Src && sender != 0 && sender>>28 != 0xe {
		m.mac, m.ip = h.Src, mapped4(b[14:])
	}
	question := op == 1 && sender != 0 && sender != target
	m.ask, m.check = question && h.Dst.Group(), question && !h.Dst.Group()
	m.probe = op == 1 && sender == 0 && target != 0 && h.Dst.Group() // RFC 5227 §2.1.1
	m.target = mapped4(b[24:])
	return true
}

// parseND parses a solicitation or advertisement (RFC 4861 §4.3 and §4.4). b is an IPv6 packet
// whose next header is ICMPv6.
func parseND(b []byte, h *Header, m *neighborMessage) bool {
	icmp := trim(b, ipv6Header+int(binary.BigEndian.Uint16(b[4:])))[ipv6Header:]
	if len(icmp) < 24 || icmp[1] != 0 || icmp[8] == 0xff || !intactICMPv6(b, icmp) {
		return false // hosts discard it, RFC 4861 §7.1
	}
	m.v6 = true
	var option byte
	switch icmp[0] {
	case icmp6NeighborSolicit:
		copy(m.target[:], icmp[8:])
		from := [16]byte(b[8:24]) != [16]byte{}
		m.ask, m.check, m.probe = from && h.Dst.Group(), from && !h.Dst.Group(), !from && h.Dst.Group()
		m.ip = [16]byte(b[8:24])
		option = optionSource
	case icmp6NeighborAdvert:
		m.ip = [16]byte(icmp[8:24])
		m.advert, m.router = true, icmp[4]&0x80 != 0
		option = optionTarget
	default:
		return false
	}
	if linkLayerOption(icmp[24:], option) == h.Src && m.ip != [16]byte{} && m.ip[0] != 0xff {
		m.mac = h.Src
	}
	return true
}

// linkLayerOption returns the MAC in the first option of the given kind in a list of options (RFC
// 4861 §4.6); 0 if there is none.
func linkLayerOption(b []byte, kind byte) MAC {
	for len(b) >= 8 {
		n := int(b[1]) * 8
		if n == 0 || n > len(b) {
			return 0
		}
		if b[0] == kind && n == 8 {
			return MACFromBytes(b[2:])
		}
		b = b[n:]
	}
	return 0
}

const (
	arpLen      = 28
	neighborLen = 32 // solicitation or advertisement with one link-layer address option
)

// appendTagged appends an Ethernet header to b: dst, src, the tags of the frame like, whose header
// is h, and etherType.
func appendTagged(b []byte, dst, src MAC, like []byte, h *Header, etherType uint16) []byte {
	b = append(b, make([]byte, 12)...)
	dst.Put(b[len(b)-12:])
	src.Put(b[len(b)-6:])
	b = append(b, like[12:12+tagLen*h.Tags]...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// appendARP appends an ARP packet with op 1 (request) or 2 (reply).
func appendARP(b []byte, op uint16, sender MAC, senderIP []byte, target MAC, targetIP []byte) []byte {
	b = append(b, 0, 1, 8, 0, 6, 4, byte(op>>8), byte(op))
	b = append(b, make([]byte, 6)...)
	sender.Put(b[len(b)-6:])
	b = append(b, senderIP[:4]...)
	b = append(b, make([]byte, 6)...)
	target.Put(b[len(b)-6:])
	return append(b, targetIP[:4]...)
}

// appendND appends an IPv6 packet with a neighbour solicitation or advertisement that carries mac.
// flags is the fifth byte of an advertisement.
func appendND(b []byte, kind, flags byte, src, dst, target [16]byte, mac MAC) []byte {
	start := len(b)
	b = append(b, 0x60, 0, 0, 0, 0, neighborLen, protoICMPv6, 255)
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	b = append(b, kind, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, target[:]...)
	option := byte(optionSource)
	if kind == icmp6NeighborAdvert {
		option = optionTarget
	}
	b = append(b, option, 1, 0, 0, 0, 0, 0, 0)
	mac.Put(b[len(b)-6:])
	icmp := b[start+ipv6Header:]
	binary.BigEndian.PutUint16(icmp[2:], checksumICMPv6(b[start:], icmp))
	return b
}

// appendAnswer appends to b the reply, on behalf of mac, to the request m in frame with header h.
func appendAnswer(b []byte, frame []byte, h *Header, m *neighborMessage, mac MAC, router bool) []byte {
	question := frame[h.Payload:]
	if !m.v6 {
		b = appendTagged(b, h.Src, mac, frame, h, typeARP)
		return appendARP(b, 2, mac, m.target[12:], h.Src, question[14:18])
	}
	b = appendTagged(b, h.Src, mac, frame, h, typeIPv6)
	flags := byte(0x60) // solicited, override
	if router {
		flags |= 0x80
	}
	return appendND(b, icmp6NeighborAdvert, flags, m.target, [16]byte(question[8:24]), m.target, mac)
}

// speaksOfForeign reports whether the frame is ARP or neighbour discovery that names a MAC as the
// sender which the pinned MACs do not allow at the port.
func (f *frameInfo) speaksOfForeign() bool {
	b := f.p.Frame[f.h.Payload:]
	switch f.h.EtherType {
	case typeARP:
		return len(b) >= 14 && !f.pinnedHere(MACFromBytes(b[8:]))
	case typeIPv6:
		s := segment6(b)
		return s.complete && !s.later && s.proto == protoICMPv6 && f.optionForeign(b[s.off:s.end], s.fragment)
	}
	return false
}

// optionForeign is speaksOfForeign for an ICMPv6 message, which may follow extension headers. All
// options are examined, because hosts differ in which of several they use. A redirect names another
// host, and only a trusted router may send one. Fragmented neighbour discovery hides its contents,
// and hosts ignore it (RFC 6980 §5).
func (f *frameInfo) optionForeign(msg []byte, fragment bool) bool {
	if len(msg) == 0 {
		return false
	}
	fixed := 0 // bytes before the options, RFC 4861 §4
	switch msg[0] {
	case icmp6RouterSolicit:
		fixed = 8
	case icmp6RouterAdvert:
		fixed = 16
	case icmp6NeighborSolicit, icmp6NeighborAdvert:
		fixed = 24
	default:
		return false
	}
	if fragment {
		return true
	}
	for options := msg[min(fixed, len(msg)):]; len(options) >= 8; {
		n := int(options[1]) * 8
		if n == 0 || n > len(options) {
			return false // hosts discard the message
		}
		if (options[0] == optionSource || options[0] == optionTarget) && !f.pinnedHere(MACFromBytes(options[2:])) {
			return true
		}
		options = options[n:]
	}
	return false
}

// Link-layer address options of neighbour discovery, RFC 4861 §4.6.1.
const (
	optionSource = 1
	optionTarget = 2
)

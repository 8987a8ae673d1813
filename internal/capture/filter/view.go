package filter

import (
	"encoding/binary"
	"net/netip"
)

// View is one packet as the terms see it. Its caller fills in the exported fields by Reset; the
// headers are read when a term first asks for them.
type View struct {
	Data     []byte // borrowed: an IP packet, or a frame if Ethernet is set
	Ethernet bool
	In       bool // from a peer
	Dropped  bool
	// Encrypted: Data is a datagram of the underlay, whose inner packet nobody sees.
	Encrypted bool
	HasPeer   bool
	Peer      Key // if HasPeer

	parsed           bool
	addressed, ports bool
	src, dst         netip.Addr
	srcPort, dstPort uint16
	proto            int16 // IP protocol; protoARP; -1: neither
	vlan             int16 // outermost tag; -1: none
	version          uint8 // of IP; 0: something else
}

// Reset makes v a view of another packet.
func (v *View) Reset(data []byte) { *v = View{Data: data} }

// Numbers of IP protocols, and one for what is not IP.
const (
	protoICMP  = 1
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58
	protoSCTP  = 132
	protoARP   = 256
)

const (
	etherHeader = 14
	vlanTag     = 4
	// maxTags is how many VLAN tags are looked through: a customer's inside a provider's (802.1ad).
	maxTags = 2
	// maxExtensions bounds the IPv6 extension headers that are looked through; honest packets have
	// one or two.
	maxExtensions = 8
)

// parse reads the headers, once.
func (v *View) parse() {
	if v.parsed {
		return
	}
	v.parsed, v.proto, v.vlan = true, -1, -1
	if !v.Ethernet {
		v.ip(v.Data)
		return
	}
	if len(v.Data) < etherHeader {
		return
	}
	kind, rest := binary.BigEndian.Uint16(v.Data[12:]), v.Data[etherHeader:]
	for range maxTags {
		if kind != 0x8100 && kind != 0x88a8 || len(rest) < vlanTag {
			break
		}
		if v.vlan < 0 {
			v.vlan = int16(binary.BigEndian.Uint16(rest) & 0xfff)
		}
		kind, rest = binary.BigEndian.Uint16(rest[2:]), rest[vlanTag:]
	}
	switch kind {
	case 0x0800, 0x86dd:
		v.ip(rest)
	case 0x0806:
		v.arp(rest)
	}
}

// arp reads an ARP packet of Ethernet and IPv4 (RFC 826): sender and target are its addresses.
func (v *View) arp(b []byte) {
	v.proto = protoARP
	if len(b) < 28 || binary.BigEndian.Uint32(b) != 0x00010800 || b[4] != 6 || b[5] != 4 {
		return
	}
	v.src, v.dst = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	v.addressed = true
}

func (v *View) ip(b []byte) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		v.version, v.proto, v.addressed = 4, int16(b[9]), true
		v.src, v.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		header := int(b[0]&15) * 4
		if first := binary.BigEndian.Uint16(b[6:])&0x1fff == 0; first && header >= 20 && header <= len(b) {
			v.transport(b[header:])
		}
	case len(b) >= 40 && b[0]>>4 == 6:
		v.version, v.addressed = 6, true
		v.src, v.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		v.extensions(b[6], b[40:])
	}
}

// extensions looks through the extension headers of IPv6 (RFC 8200 §4) for the transport header.
func (v *View) extensions(next uint8, b []byte) {
	for range maxExtensions {
		size := 0
		switch next {
		case 0, 43, 60: // hop-by-hop options, routing, destination options
			if len(b) < 8 {
				return
			}
			size = 8 + int(b[1])*8
		case 44: // fragment
			if len(b) < 8 {
				return
			}
			if binary.BigEndian.Uint16(b[2:])>>3 != 0 { // not the first
				v.proto = int16(b[0])
				return
			}
			size = 8
		default:
			v.proto = int16(next)
			v.transport(b)
			return
		}
		if len(b) < size {
			return
		}
		next, b = b[0], b[size:]
	}
}

// transport reads the ports, which TCP, UDP and SCTP have in the same place.
func (v *View) transport(b []byte) {
	if v.proto != protoTCP && v.proto != protoUDP && v.proto != protoSCTP || len(b) < 4 {
		return
	}
	v.srcPort, v.dstPort, v.ports = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), true
}

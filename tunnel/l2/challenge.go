package l2

import (
	"bytes"
	"encoding/binary"
)

// challenge queues an ARP request or a neighbour solicitation for a host, to the port that has its
// MAC.
func (s *Switch) challenge(c *challenge) {
	p := s.view.Load().port(c.port)
	if p == nil || !p.ready {
		return
	}
	vid, mac := keyVID(c.key), keyMAC(c.key)
	tagged, ok := p.vlans.egress(vid)
	if !ok {
		return
	}
	b := make([]byte, FrameHeaderLen, 128)
	if c.len == 4 {
		b = appendHeader(b, mac, s.mac, vid, tagged, typeARP)
		// Sender 0.0.0.0: an ARP probe (RFC 5227 §2.1), which changes no ARP cache.
		b = appendARP(b, 1, s.mac, []byte{0, 0, 0, 0}, 0, c.host[:4])
	} else {
		b = appendHeader(b, mac, s.mac, vid, tagged, typeIPv6)
		b = appendND(b, icmp6NeighborSolicit, 0, linkLocal(s.mac), c.host, c.host, s.mac)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.port == LocalPort {
		s.toDevice(b[FrameHeaderLen:])
		return
	}
	PutFrameHeader(b, 0, len(b)-FrameHeaderLen)
	s.toPeer(c.port, b)
}

// linkLocal returns the link-local address formed from a MAC (RFC 4291 appendix A).
func linkLocal(m MAC) (ip [16]byte) {
	ip[0], ip[1] = 0xfe, 0x80
	var b [6]byte
	m.Put(b[:])
	copy(ip[8:], []byte{b[0] ^ 2, b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]})
	return ip
}

// isChallenge reports whether the frame is a request as challenge makes it, or a query as
// queryGroups makes it, sent from the MAC of the switch that asks. At a port with pinned MACs,
// nothing but these and the queries of isQuery may come from the MAC of the peer's switch, because
// the peer chooses that MAC.
func (f *frameInfo) isChallenge() bool {
	b := f.p.Frame[f.h.Payload:]
	if f.h.Dst.Group() {
		return false
	}
	switch f.h.EtherType {
	case typeARP:
		return len(b) >= 28 && binary.BigEndian.Uint64(b) == 0x0001_0800_06_04_0001 &&
			MACFromBytes(b[8:]) == f.h.Src && binary.BigEndian.Uint32(b[14:]) == 0
	case typeIPv4:
		var query [igmpQueryLen]byte
		return bytes.HasPrefix(b, appendIGMPQuery(query[:0], hostResponse))
	case typeIPv6:
		var query [mldQueryLen]byte
		if bytes.HasPrefix(b, appendMLDQuery(query[:0], linkLocal(f.h.Src), hostResponse)) {
			return true
		}
		const wholeLen = ipv6Header + 24 // and the options, of which there is one
		return len(b) >= wholeLen+8 && b[6] == protoICMPv6 && b[7] == 255 &&
			binary.BigEndian.Uint16(b[4:]) == wholeLen+8-ipv6Header &&
			[16]byte(b[8:24]) == linkLocal(f.h.Src) && b[ipv6Header] == icmp6NeighborSolicit &&
			b[wholeLen] == 1 && b[wholeLen+1] == 1 && MACFromBytes(b[wholeLen+2:]) == f.h.Src
	}
	return false
}

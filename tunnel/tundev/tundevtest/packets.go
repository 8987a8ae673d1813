package tundevtest

import (
	"encoding/binary"
	"net/netip"

	"tund/tunnel/offload"
)

// Packet makes an IPv4 packet with n bytes of payload of protocol 253, which is for experiments
// (RFC 3692).
func Packet(src, dst netip.Addr, n int) []byte {
	p := make([]byte, 20+n)
	p[0], p[8], p[9] = 0x45, 64, 253
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	return p
}

// TCPSegment makes a packet of a TCP flow with size bytes of payload.
func TCPSegment(src, dst netip.Addr, seq, size int) []byte {
	p := Packet(src, dst, 20+size)
	p[9] = 6
	tcp := p[20:]
	tcp[1], tcp[3], tcp[12], tcp[13] = 7, 9, 5<<4, 0x10
	binary.BigEndian.PutUint32(tcp[4:], uint32(seq))
	return p
}

// TCPSuper makes a TCP superpacket of segments times size bytes of payload, with its virtio header.
func TCPSuper(src, dst netip.Addr, segments, size int) []byte {
	h := offload.VirtioHeader{
		Flags: offload.NeedsChecksum, GSOType: offload.GSOTCPv4, HdrLen: 40, GSOSize: uint16(size), CsumStart: 20, CsumOffset: 16,
	}
	return append(header(h), TCPSegment(src, dst, 0, segments*size)...)
}

// UDPSuper makes a UDP superpacket of segments times size bytes of payload, with its virtio header.
func UDPSuper(src, dst netip.Addr, segments, size int) []byte {
	p := Packet(src, dst, 8+segments*size)
	p[9] = 17
	udp := p[20:]
	udp[1], udp[3] = 7, 9
	binary.BigEndian.PutUint16(udp[4:], uint16(8+segments*size))
	h := offload.VirtioHeader{
		Flags: offload.NeedsChecksum, GSOType: offload.GSOUDP, HdrLen: 28, GSOSize: uint16(size), CsumStart: 20, CsumOffset: 6,
	}
	return append(header(h), p...)
}

func header(h offload.VirtioHeader) []byte {
	b := make([]byte, offload.VirtioHeaderLen)
	h.Encode(b)
	return b
}

// Package offload turns superpackets into segments and segments into superpackets, at layer 3 and
// layer 2.
//
// Splitter cuts one frame read from a TUN or TAP device, preceded by its virtio_net_hdr, into the
// segments that travel as single messages, and completes what the kernel left open (lengths, IDs,
// sequence numbers, checksums). Coalescer does the reverse: it says where each opened segment is to
// be put so that payload lands behind payload, and hands one frame with one virtio_net_hdr to the
// device. Neither copies payload when traffic is what it expects: Splitter stamps headers over what
// has been sealed already, Coalescer lets the cipher write to the final place and repairs the few
// bytes that each header overwrites.
//
// It does not read or write devices, fragment or reassemble packets, track connections, or choose
// recipients, and it is not a firewall: what it does not recognize passes unchanged and by itself.
//
// Concurrency: a Splitter and a Coalescer belong to one loop each. Nothing is shared and nothing
// allocates per packet. There is no goroutine, clock, socket or log here.
//
// Sources: the virtio specification 1.2 §5.1.6 (virtio_net_hdr); what Linux's tun.c, virtio_net.h,
// tcp_offload.c, udp_offload.c, af_inet.c and ip6_offload.c accept and produce; RFC 1071 and RFC
// 1624 (checksum), RFC 9293 (TCP), RFC 768 (UDP), RFC 8200 (IPv6), RFC 6864 (IPv4 ID).
package offload

import "encoding/binary"

// Link says what a frame begins with.
type Link uint8

const (
	// IP is a TUN device: the frame begins with the IPv4 or IPv6 header.
	IP Link = iota
	// Ethernet is a TAP device: 14 bytes of Ethernet header and 4 for each VLAN tag, of which two
	// are understood.
	Ethernet
)

// VirtioHeaderLen is the size in bytes of the virtio_net_hdr before every frame (IFF_VNET_HDR, the
// 10-byte form).
const VirtioHeaderLen = 10

// MaxPadding is the number of bytes by which the padding of a segment may exceed it. A buffer given
// to Splitter.Begin has this much capacity behind the frame. WireGuard whitepaper §5.4.6: pad to
// 16.
const MaxPadding = 15

// Flags of VirtioHeader.Flags. virtio 1.2 §5.1.6.
const (
	// NeedsChecksum: the checksum at CsumStart+CsumOffset holds only the sum of the pseudo-header.
	NeedsChecksum = 1
	// DataValid: the kernel has verified the checksum. Only read, ignored when written.
	DataValid = 2
)

// Values of VirtioHeader.GSOType. virtio 1.2 §5.1.6.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	// VIRTIO_NET_HDR_GSO_UDP_L4: datagrams of one flow, not fragments of one datagram.
	GSOUDP = 5
	GSOECN = 0x80 // or-ed to the TCP types: the first segment has CWR set
)

// VirtioHeader is struct virtio_net_hdr. On the device it is in the machine's own byte order:
//
//	0      1         2        4         6           8            10
//	| flags | gso_type | hdr_len | gso_size | csum_start | csum_offset |
//
// Offsets count from the first byte of the frame, its link header included.
type VirtioHeader struct {
	Flags   uint8
	GSOType uint8
	// Bytes of all headers; what is read here is only a hint (a forwarded superpacket has any
	// value)
	HdrLen     uint16
	GSOSize    uint16 // payload bytes of each segment but the last
	CsumStart  uint16 // where summing begins
	CsumOffset uint16 // where the checksum goes, from CsumStart
}

// Decode reads h from the first VirtioHeaderLen bytes of b, which must be there. It judges nothing.
func (h *VirtioHeader) Decode(b []byte) {
	_ = b[VirtioHeaderLen-1]
	h.Flags = b[0]
	h.GSOType = b[1]
	h.HdrLen = binary.NativeEndian.Uint16(b[2:])
	h.GSOSize = binary.NativeEndian.Uint16(b[4:])
	h.CsumStart = binary.NativeEndian.Uint16(b[6:])
	h.CsumOffset = binary.NativeEndian.Uint16(b[8:])
}

// Encode writes h to the first VirtioHeaderLen bytes of b, which must be there. Every byte is
// written.
func (h *VirtioHeader) Encode(b []byte) {
	_ = b[VirtioHeaderLen-1]
	b[0] = h.Flags
	b[1] = h.GSOType
	binary.NativeEndian.PutUint16(b[2:], h.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.GSOSize)
	binary.NativeEndian.PutUint16(b[6:], h.CsumStart)
	binary.NativeEndian.PutUint16(b[8:], h.CsumOffset)
}

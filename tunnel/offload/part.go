package offload

import "encoding/binary"

// Bounds of a superpacket from the device. Its segments all cost a datagram, whatever their size,
// and who sends it pays for one packet: a container with CAP_NET_RAW could have 60,000 segments of
// one byte made of it, and fill the underlay with a hundred times the bytes it sent.
const (
	// PartSegments is how many segments of a superpacket are sent before another flow has its turn.
	// It is also how many a superpacket may have whatever their size: Linux sends up to 128
	// datagrams at a time (UDP_MAX_SEGMENTS since 6.9), and receives up to 64 packets of a few
	// bytes as one (NAPI). They cost no more than the 47 segments of a full superpacket of 1,400
	// bytes each.
	PartSegments = 128

	// maxGrowth is how many times as long as a superpacket the datagrams made of it may be
	// together, if it has more segments than that. The least MSS that a peer can impose on Linux is
	// 48 (net.ipv4.tcp_min_snd_mss), of which timestamps take 12: with IPv6 and two VLAN tags
	// inside, and IPv6 outside, 5.9 times as much leaves.
	maxGrowth = 6

	// datagramHeaders is what a segment gets on its way, in bytes: IPv6 (40), UDP (8), and the
	// header and the tag of a transport message (16 each).
	datagramHeaders = 80
)

// Excess returns by how many bytes the datagrams made of the frame given to Begin exceed what those
// of an honest superpacket come to, and 0 if they do not. It is a matter of sums and not of
// gso_size alone: headers may be long. Begin refuses a frame with an excess that has more than
// PartSegments segments; the others are for the caller to bound.
func (s *Splitter) Excess() int {
	if s.total <= 1 {
		return 0
	}
	frame := s.end - VirtioHeaderLen
	made := frame + (s.total-1)*s.headers + s.total*datagramHeaders // the frame has one header
	return max(0, made-maxGrowth*frame)
}

// Rest is what is needed to continue with a superpacket after its first part: its headers as they
// were read, which cutting destroys. The zero value is empty. It is reused, and belongs to one
// loop.
type Rest struct {
	head      [VirtioHeaderLen + maxHeaders]byte
	headLen   int
	network   int // offsets in the frame
	transport int
	version   uint8
	proto     uint8
	skip      int // payload bytes of the first part; 0: there is no rest
}

// Part is called between Begin and Next. If the frame has more than PartSegments segments, it makes
// Next end after that many, and notes in rest how to go on; otherwise it empties rest. What Begin
// was given may be copied, or get another VLAN tag, before it is cut: Begin is then called again,
// and Part with nil.
func (s *Splitter) Part(rest *Rest) {
	parted := s.count > PartSegments
	if parted {
		s.count = PartSegments
	}
	if rest == nil {
		return
	}
	rest.skip = 0
	if !parted {
		return
	}
	rest.skip = s.count * s.mss
	rest.headLen = copy(rest.head[:], s.buf[:VirtioHeaderLen+s.headers])
	rest.network, rest.transport = s.network, s.transport
	rest.version, rest.proto = s.version, s.proto
}

// Len returns how many bytes of payload the first part has: the rest begins that much later in the
// buffer and is that much shorter. It is 0 when there is no rest.
func (r *Rest) Len() int { return r.skip }

// Put writes the headers of the rest in front of its payload: buf is what Begin was first given,
// after Next has returned nil, and buf[r.Len():] is then a superpacket, or one segment, to be given
// to Begin.
func (r *Rest) Put(buf []byte) {
	copy(buf[r.skip:], r.head[:r.headLen])
	frame := buf[r.skip+VirtioHeaderLen:]
	ip, l4 := frame[r.network:], frame[r.transport:]
	be := binary.BigEndian
	at := 4 // of the IP length
	if r.version == 4 {
		at = 2
		be.PutUint16(ip[4:], be.Uint16(ip[4:])+uint16(PartSegments)) // the ID counts
	}
	if n := be.Uint16(ip[at:]); n != 0 {
		be.PutUint16(ip[at:], n-uint16(r.skip))
	}
	checksum := udpChecksum
	if r.proto == protoTCP {
		checksum = tcpChecksum
		be.PutUint32(l4[4:], be.Uint32(l4[4:])+uint32(r.skip))
		l4[13] &^= tcpCWR // told once
	} else if n := be.Uint16(l4[4:]); n != 0 {
		be.PutUint16(l4[4:], n-uint16(r.skip))
	}
	// The sum of the pseudo-header has the length in it.
	be.PutUint16(l4[checksum:], fold(uint64(be.Uint16(l4[checksum:]))+uint64(^uint16(r.skip))))
	if r.version == 4 {
		size := r.transport - r.network
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], ^fold(Sum(ip[:size], 0)))
	}
}

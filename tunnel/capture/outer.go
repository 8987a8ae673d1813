package capture

import (
	"encoding/binary"
	"net"
	"net/netip"

	"tund/internal/boottime"
	"tund/internal/capture/stream"
	"tund/internal/drop"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
)

// Datagram is a UDP payload that was received or sent.
type Datagram struct {
	Data   []byte // borrowed for the call
	In     bool
	Remote netip.AddrPort
	Local  netip.Addr // the zero Addr: the kernel chose it
	Port   uint16     // local
	Class  uint8      // traffic class: DSCP and ECN
	Reason drop.Reason
	Peer   *peer.Peer // nil: not known
	Time   boottime.Time
}

// Datagram offers a datagram to the captures of the underlay. With wait, which is not for lanes, it
// waits until another goroutine has written to the same ring.
func (s *Set) Datagram(w Writer, d *Datagram, wait bool) {
	for _, one := range s.sessions {
		if one.outer >= 0 {
			one.datagram(w, d, wait)
		}
	}
}

func (s *Session) datagram(w Writer, d *Datagram, wait bool) {
	r := s.ring(w)
	if !r.lock(wait) {
		r.lost[s.outer].Add(1)
		return
	}
	defer r.writing.Unlock()
	if s.filter != nil {
		r.view.Reset(d.Data)
		r.view.Encrypted, r.view.In, r.view.Dropped = true, d.In, d.Reason != drop.None
		if !r.match(s.filter, d.Peer) {
			return
		}
	}
	head := r.headers(d)
	h := stream.Header{
		Kind: stream.KindPacket, Interface: uint8(s.outer), Time: int64(d.Time), Length: uint32(len(head) + len(d.Data)),
		Reason: uint16(d.Reason),
	}
	if d.In {
		h.Flags |= stream.In
	}
	r.write(&h, d.Peer, head, d.Data[:min(len(d.Data), max(0, s.snap-len(head)))])
}

const (
	udpHeader  = 8
	ipv4Header = 20
	ipv6Header = 40
	protoUDP   = 17
	hopLimit   = 64 // Linux's default; that of a received datagram is not known
)

// headers makes the IP and UDP headers of a datagram in the ring's scratch memory. Addresses,
// ports, lengths and the traffic class are the true ones.
func (r *ring) headers(d *Datagram) []byte {
	be := binary.BigEndian
	local := d.Local
	if !local.IsValid() {
		local = netip.IPv4Unspecified()
		if d.Remote.Addr().Is6() {
			local = netip.IPv6Unspecified()
		}
	}
	src, dst := netip.AddrPortFrom(local, d.Port), d.Remote
	if d.In {
		src, dst = dst, src
	}
	n := udpHeader + len(d.Data)
	b := r.scratch[:]
	at := ipv6Header
	clear(b)
	if dst.Addr().Is4() && src.Addr().Is4() {
		at = ipv4Header
		b[0], b[1], b[8], b[9] = 0x45, d.Class, hopLimit, protoUDP
		be.PutUint16(b[2:], uint16(ipv4Header+n))
		from, to := src.Addr().As4(), dst.Addr().As4()
		copy(b[12:], from[:])
		copy(b[16:], to[:])
		be.PutUint16(b[10:], ^fold(offload.Sum(b[:ipv4Header], 0)))
	} else {
		be.PutUint32(b, 6<<28|uint32(d.Class)<<20)
		be.PutUint16(b[4:], uint16(n))
		b[6], b[7] = protoUDP, hopLimit
		from, to := src.Addr().As16(), dst.Addr().As16()
		copy(b[8:], from[:])
		copy(b[24:], to[:])
	}
	be.PutUint16(b[at:], src.Port())
	be.PutUint16(b[at+2:], dst.Port())
	be.PutUint16(b[at+4:], uint16(n))
	if at == ipv6Header { // whose UDP checksum must not be missing (RFC 8200 §8.1)
		sum := offload.Sum(b[8:at+udpHeader], uint64(n)+protoUDP)
		check := ^fold(offload.Sum(d.Data, sum))
		if check == 0 {
			check = 0xffff
		}
		be.PutUint16(b[at+6:], check)
	}
	return b[:at+udpHeader]
}

// fold returns the 16 bits of a one's complement sum.
func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// Secret hands the keys of a handshake to the captures that want them, before a message made with
// them is sent. It is not for lanes: it waits for room among those who share a ring.
func (s *Set) Secret(now boottime.Time, secret *stream.Secret, p *peer.Peer) {
	for _, one := range s.sessions {
		if one.secrets {
			one.secret(now, secret, p)
		}
	}
}

func (s *Session) secret(now boottime.Time, secret *stream.Secret, p *peer.Peer) {
	r := s.rings[0]
	r.lock(true)
	defer r.writing.Unlock()
	if r.unread {
		return
	}
	if s.filter != nil {
		r.view.Reset(nil)
		r.view.Encrypted = true
		if p != nil && !r.match(s.filter, p) {
			return
		}
	}
	var b [stream.SecretSize]byte
	secret.Put(b[:])
	if !r.put(&stream.Header{Kind: stream.KindSecret, Time: int64(now)}, b[:], nil) {
		r.lost[s.outer].Add(1)
	}
	clear(b[:])
}

// LocalAddr returns the address from which the kernel would send to remote, or the zero Addr. It
// sends nothing, but makes system calls: it is not for lanes.
func LocalAddr(remote netip.AddrPort) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	if local, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return local.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

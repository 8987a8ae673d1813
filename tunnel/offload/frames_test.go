package offload

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// spec describes a packet; build makes it with gopacket, so that nothing of this package is trusted
// to make its own tests.
type spec struct {
	link         Link
	vlans        []uint16
	v6, udp      bool
	src, dst     byte
	sport, dport uint16
	seq, ack     uint32
	flags        uint8
	window       uint16
	stamp        uint64 // timestamps option when not 0
	ttl, tos     uint8
	label        uint32
	id           uint16
	df           bool
	more         bool // a first fragment
	options      bool // IPv4 router alert
	noSum        bool
	payload      []byte
}

var buildOptions = gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}

func (s spec) build(t testing.TB) []byte {
	t.Helper()
	var list []gopacket.SerializableLayer
	if s.link == Ethernet {
		list = append(list, s.linkLayers()...)
	}
	proto := layers.IPProtocolTCP
	if s.udp {
		proto = layers.IPProtocolUDP
	}
	var ip gopacket.NetworkLayer
	if s.v6 {
		l := &layers.IPv6{Version: 6, TrafficClass: s.tos, FlowLabel: s.label, HopLimit: s.ttl, NextHeader: proto,
			SrcIP: append(net.ParseIP("fd09::")[:15:15], s.src), DstIP: append(net.ParseIP("fd0a::")[:15:15], s.dst)}
		ip, list = l, append(list, l)
	} else {
		l := &layers.IPv4{Version: 4, IHL: 5, TOS: s.tos, TTL: s.ttl, Id: s.id, Protocol: proto,
			SrcIP: net.IP{10, 0, 0, s.src}, DstIP: net.IP{10, 1, 0, s.dst}}
		if s.df {
			l.Flags |= layers.IPv4DontFragment
		}
		if s.more {
			l.Flags |= layers.IPv4MoreFragments
		}
		if s.options {
			l.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
		}
		ip, list = l, append(list, l)
	}
	if s.udp {
		l := &layers.UDP{SrcPort: layers.UDPPort(s.sport), DstPort: layers.UDPPort(s.dport)}
		l.SetNetworkLayerForChecksum(ip)
		list = append(list, l)
	} else {
		l := s.tcpLayer()
		l.SetNetworkLayerForChecksum(ip)
		list = append(list, l)
	}
	out := serialize(t, append(list, gopacket.Payload(s.payload))...)
	if s.udp {
		at := len(out) - len(s.payload) - 2
		if s.noSum {
			out[at], out[at+1] = 0, 0
		} else if out[at] == 0 && out[at+1] == 0 {
			out[at], out[at+1] = 0xff, 0xff
		}
	}
	return out
}

func (s spec) linkLayers() []gopacket.SerializableLayer {
	kind := layers.EthernetTypeIPv4
	if s.v6 {
		kind = layers.EthernetTypeIPv6
	}
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, s.src}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 1, s.dst}, EthernetType: kind}
	list := []gopacket.SerializableLayer{eth}
	for i, id := range s.vlans {
		list = append(list, &layers.Dot1Q{VLANIdentifier: id, Type: layers.EthernetTypeDot1Q})
		if i == len(s.vlans)-1 {
			list[i+1].(*layers.Dot1Q).Type = kind
		}
		eth.EthernetType = layers.EthernetTypeDot1Q
	}
	return list
}

func (s spec) tcpLayer() *layers.TCP {
	l := &layers.TCP{SrcPort: layers.TCPPort(s.sport), DstPort: layers.TCPPort(s.dport), Seq: s.seq, Ack: s.ack, Window: s.window,
		FIN: s.flags&1 != 0, SYN: s.flags&2 != 0, RST: s.flags&4 != 0, PSH: s.flags&8 != 0, ACK: s.flags&16 != 0,
		URG: s.flags&32 != 0, ECE: s.flags&64 != 0, CWR: s.flags&128 != 0}
	if s.stamp != 0 {
		l.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: binary.BigEndian.AppendUint64(nil, s.stamp)}}
	}
	return l
}

func serialize(t testing.TB, list ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, buildOptions, list...); err != nil {
		t.Fatal(err)
	}
	out := append([]byte(nil), b.Bytes()...)
	if list[0].LayerType() != layers.LayerTypeEthernet {
		return out
	}
	at := 14 // gopacket pads a frame to 60 bytes; a device does not
	for binary.BigEndian.Uint16(out[at-2:]) == 0x8100 {
		at += 4
	}
	if out[at]>>4 == 4 {
		return out[:at+int(binary.BigEndian.Uint16(out[at+2:]))]
	}
	return out[:at+40+int(binary.BigEndian.Uint16(out[at+4:]))]
}

// slowSum is RFC 1071 written out: one byte at a time.
func slowSum(b []byte, initial uint32) uint16 {
	sum := initial
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum>>16 + sum&0xffff)
}

// slowSplit is the oracle: what a device does with a virtio_net_hdr and a frame, by decoding with
// gopacket and building each segment anew. It fails the test on a header that Linux would refuse.
func slowSplit(t testing.TB, link Link, frame []byte) [][]byte {
	t.Helper()
	var h VirtioHeader
	h.Decode(frame)
	frame = append([]byte(nil), frame[VirtioHeaderLen:]...)
	if h.Flags&^NeedsChecksum != 0 {
		t.Fatalf("flags %#x", h.Flags)
	}
	start, at := int(h.CsumStart), int(h.CsumStart)+int(h.CsumOffset)
	if h.Flags == 0 && h != (VirtioHeader{}) {
		t.Fatalf("no checksum wanted, but header %+v", h)
	}
	if h.Flags != 0 && at+2 > len(frame) {
		t.Fatalf("checksum outside the frame: %+v of %d", h, len(frame))
	}
	if h.GSOType == GSONone {
		if h.Flags != 0 {
			sum := ^slowSum(frame[start:], 0)
			if sum == 0 {
				sum = 0xffff
			}
			binary.BigEndian.PutUint16(frame[at:], sum)
		}
		return [][]byte{frame}
	}
	return slowSegments(t, link, &h, frame)
}

func slowSegments(t testing.TB, link Link, h *VirtioHeader, frame []byte) (out [][]byte) {
	t.Helper()
	first := gopacket.Decoder(layers.LayerTypeEthernet)
	if link == IP {
		first = layers.LayerTypeIPv4
		if frame[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
	}
	p := gopacket.NewPacket(frame, first, gopacket.DecodeOptions{NoCopy: true})
	// What is above the IP header is read here: a decoder that understands ports and TCP options
	// would refuse some of what a peer may send.
	ip := p.NetworkLayer()
	if ip == nil {
		t.Fatalf("no IP packet in superpacket: %v", p)
	}
	l4 := ip.LayerPayload()
	size, wantOffset := udpHeader, uint16(6)
	if h.GSOType != GSOUDP {
		size, wantOffset = int(l4[12]>>4)*4, 16
	}
	payload := l4[size:]
	headers := len(frame) - len(payload)
	partial := uint16(slowPseudo(ip, h.GSOType == GSOUDP, len(l4)))
	if got := binary.BigEndian.Uint16(frame[int(h.CsumStart)+int(wantOffset):]); got != partial {
		t.Fatalf("checksum field holds %#x, the pseudo-header sums to %#x", got, partial)
	}
	if int(h.HdrLen) != headers || h.CsumOffset != wantOffset || len(payload) <= int(h.GSOSize) {
		t.Fatalf("header %+v for %d bytes of headers, %d of payload", h, headers, len(payload))
	}
	segments := (len(payload) + int(h.GSOSize) - 1) / int(h.GSOSize)
	for i := range segments {
		chunk := payload[i*int(h.GSOSize) : min(len(payload), (i+1)*int(h.GSOSize))]
		out = append(out, slowSegment(t, p, h, l4[:size], chunk, i, segments))
	}
	return out
}

func slowPseudo(ip gopacket.NetworkLayer, udp bool, length int) uint16 {
	var b []byte
	switch l := ip.(type) {
	case *layers.IPv4:
		b = append(append(b, l.SrcIP...), l.DstIP...)
	case *layers.IPv6:
		b = append(append(b, l.SrcIP...), l.DstIP...)
	}
	proto := byte(6)
	if udp {
		proto = 17
	}
	return slowSum(append(b, 0, proto, byte(length>>8), byte(length)), 0)
}

// slowSegment returns segment i of a superpacket whose TCP or UDP header is l4: link and IP headers
// by gopacket, and the rest of the header as it came, with its own sequence number, flags, length
// and checksum.
func slowSegment(t testing.TB, p gopacket.Packet, h *VirtioHeader, l4, chunk []byte, i, segments int) []byte {
	var list []gopacket.SerializableLayer
	var ip gopacket.NetworkLayer
	proto, gso := layers.IPProtocolTCP, h.GSOType&^GSOECN
	if h.GSOType == GSOUDP {
		proto = layers.IPProtocolUDP
	}
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			list = append(list, l)
		case *layers.Dot1Q:
			list = append(list, l)
		case *layers.IPv4:
			c := *l
			c.Id += uint16(i)
			if c.Protocol != proto || h.GSOType != GSOUDP && gso != GSOTCPv4 {
				t.Fatalf("GSO type %d on IPv4, protocol %d", h.GSOType, c.Protocol)
			}
			ip, list = &c, append(list, &c)
		case *layers.IPv6:
			if l.NextHeader != proto || h.GSOType != GSOUDP && gso != GSOTCPv6 {
				t.Fatalf("GSO type %d on IPv6, next header %d", h.GSOType, l.NextHeader)
			}
			ip, list = l, append(list, l)
		}
		if ip != nil {
			break
		}
	}
	l4 = append(append([]byte(nil), l4...), chunk...)
	at := udpChecksum
	if proto == layers.IPProtocolTCP {
		at = tcpChecksum
		seq := binary.BigEndian.Uint32(l4[4:]) + uint32(i)*uint32(h.GSOSize)
		binary.BigEndian.PutUint32(l4[4:], seq)
		if i != segments-1 {
			l4[13] &^= tcpFIN | tcpPSH
		}
		if i != 0 {
			l4[13] &^= tcpCWR
		}
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	binary.BigEndian.PutUint16(l4[at:], 0)
	sum := ^slowSum(l4, uint32(slowPseudo(ip, proto == layers.IPProtocolUDP, len(l4))))
	if sum == 0 && proto == layers.IPProtocolUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(l4[at:], sum)
	return serialize(t, append(list, gopacket.Payload(l4))...)
}

package ethernet

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/tunnel/l2"
)

// Addresses that are nobody's.
const (
	strangerMAC l2.MAC = 0x02ee00000001
	anotherMAC  l2.MAC = 0x02ee00000002
)

// testType is the EtherType of frames that mean nothing to anybody (local experimental, IEEE 802).
const testType = 0x88b6

// put writes an Ethernet header with tags (TPID and VLAN in pairs) before an EtherType.
func header(dst, src l2.MAC, etherType uint16, tags ...uint16) []byte {
	b := make([]byte, 12, 64)
	dst.Put(b)
	src.Put(b[6:])
	for _, v := range tags {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return binary.BigEndian.AppendUint16(b, etherType)
}

// plainFrame makes a frame of the test type of at least 60 bytes with a payload that can be
// recognized.
func plainFrame(dst, src l2.MAC, payload string, tags ...uint16) []byte {
	return padded(append(header(dst, src, testType, tags...), payload...))
}

func padded(b []byte) []byte {
	for len(b) < 60 {
		b = append(b, 0)
	}
	return b
}

// holds returns a condition: the frame has the payload somewhere.
func holds(payload string) func([]byte) bool {
	return func(frame []byte) bool { return bytes.Contains(frame, []byte(payload)) }
}

// from returns a condition: the frame comes from the MAC.
func from(m l2.MAC) func([]byte) bool {
	return func(frame []byte) bool { return len(frame) >= 12 && l2.MACFromBytes(frame[6:]) == m }
}

// hw returns a MAC as package net has it.
func hw(m l2.MAC) net.HardwareAddr {
	b := make([]byte, 6)
	m.Put(b)
	return b
}

// build serializes layers with lengths and checksums.
func build(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return padded(b.Bytes())
}

func ethernetLayer(dst, src l2.MAC, etherType layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: hw(src), DstMAC: hw(dst), EthernetType: etherType}
}

// udp4 makes a UDP datagram over IPv4.
func udp4(t testing.TB, dst, src l2.MAC, from, to string, sport, dport int, payload []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(from), DstIP: net.ParseIP(to)}
	udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return build(t, ethernetLayer(dst, src, layers.EthernetTypeIPv4), ip, udp, gopacket.Payload(payload))
}

// arp makes an ARP packet: op 1 asks who has `to`, op 2 says that `ip` is at src.
func arp(t testing.TB, dst, src l2.MAC, op uint16, ip string, target l2.MAC, to string) []byte {
	t.Helper()
	return build(t, ethernetLayer(dst, src, layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: hw(src), SourceProtAddress: net.ParseIP(ip).To4(),
		DstHwAddress: hw(target), DstProtAddress: net.ParseIP(to).To4(),
	})
}

// gratuitous is what a host says when it has moved: an ARP request for its own address.
func gratuitous(t testing.TB, src l2.MAC, ip string) []byte {
	t.Helper()
	return arp(t, l2.Broadcast, src, 1, ip, 0, ip)
}

// routerAdvertisement offers a /64 for address autoconfiguration.
func routerAdvertisement(t testing.TB, src l2.MAC, prefix string) []byte {
	t.Helper()
	const allNodes l2.MAC = 0x333300000001
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: linkLocal(src), DstIP: net.ParseIP("ff02::1")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	// RFC 4861 §4.6.2, without type and length: on-link and autonomous, for an hour.
	option := make([]byte, 30)
	option[0], option[1] = 64, 0xc0
	binary.BigEndian.PutUint32(option[2:], 3600)
	binary.BigEndian.PutUint32(option[6:], 3600)
	copy(option[14:], net.ParseIP(prefix))
	return build(t, ethernetLayer(allNodes, src, layers.EthernetTypeIPv6), ip, icmp, &layers.ICMPv6RouterAdvertisement{
		HopLimit: 64, RouterLifetime: 1800,
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptPrefixInfo, Data: option}},
	})
}

// linkLocal returns the link-local address made of a MAC.
func linkLocal(m l2.MAC) net.IP {
	b := hw(m)
	return net.IP{0xfe, 0x80, 0, 0, 0, 0, 0, 0, b[0] ^ 2, b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]}
}

// bpdu is a configuration BPDU (IEEE 802.1D) of a bridge that wants to be the root.
func bpdu(src l2.MAC) []byte {
	b := make([]byte, 12, 64)
	l2.MAC(0x0180c2000000).Put(b)
	src.Put(b[6:])
	b = binary.BigEndian.AppendUint16(b, 38)
	b = append(b, 0x42, 0x42, 3, 0, 0, 0, 0, 0)
	b = append(b, 0, 0)
	b = append(b, hw(src)...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(b, hw(src)...)
	return padded(append(b, 0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0))
}

// dhcp makes a DHCP message of a client (op request) or a server (op reply) over IPv4 broadcast.
func dhcp(t testing.TB, src l2.MAC, op layers.DHCPOp, kind layers.DHCPMsgType, client l2.MAC, more ...layers.DHCPOption) []byte {
	t.Helper()
	from, sport, dport := "0.0.0.0", 68, 67
	if op == layers.DHCPOpReply {
		from, sport, dport = "10.7.0.66", 67, 68
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(from), DstIP: net.IPv4bcast}
	udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	message := &layers.DHCPv4{
		Operation: op, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: uint32(client), Flags: 0x8000,
		ClientHWAddr: hw(client), YourClientIP: net.IPv4(10, 7, 0, 200), ClientIP: net.IPv4zero, NextServerIP: net.IPv4zero,
		RelayAgentIP: net.IPv4zero,
		Options:      append(layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)})}, more...),
	}
	return build(t, ethernetLayer(l2.Broadcast, src, layers.EthernetTypeIPv4), ip, udp, message)
}

// dhcpOf returns the DHCP message for a client in a frame, or nil.
func dhcpOf(frame []byte, client l2.MAC) *layers.DHCPv4 {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	m, _ := p.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4)
	if m == nil || m.Operation != layers.DHCPOpReply || !bytes.Equal(m.ClientHWAddr, hw(client)) {
		return nil
	}
	return m
}

// option returns an option of a DHCP message.
func option(m *layers.DHCPv4, kind layers.DHCPOpt) []byte {
	for _, o := range m.Options {
		if o.Type == kind {
			return o.Data
		}
	}
	return nil
}

// queryAnswered is how long after a query that is to be answered within a second switches prune.
const queryAnswered = 2200 * time.Millisecond

// generalQuery is an IGMPv2 general query that wants answers within a second (RFC 2236).
func generalQuery(t testing.TB, src l2.MAC, ip string) []byte {
	t.Helper()
	const allHosts l2.MAC = 0x01005e000001
	return build(t, ethernetLayer(allHosts, src, layers.EthernetTypeIPv4),
		&layers.IPv4{Version: 4, TTL: 1, Protocol: layers.IPProtocolIGMP, SrcIP: net.ParseIP(ip), DstIP: net.IPv4(224, 0, 0, 1),
			Options: []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}},
		gopacket.Payload([]byte{0x11, 10, 0xee, 0xf5, 0, 0, 0, 0}))
}

package l3

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// packetOf makes an IP packet of a protocol with a payload.
func packetOf(t testing.TB, src, dst string, protocol layers.IPProtocol, payload []byte) []byte {
	t.Helper()
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	var header gopacket.SerializableLayer = &layers.IPv4{
		Version: 4, TTL: 64, Protocol: protocol, SrcIP: from.AsSlice(), DstIP: to.AsSlice(), Id: 7,
	}
	if from.Is6() {
		header = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	}
	b := gopacket.NewSerializeBuffer()
	o := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, o, header, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAppendTooBig_isWhatADecoderExpects(t *testing.T) {
	t.Parallel()
	payload := bytes.Repeat([]byte{1, 2, 3, 4}, 350)
	m, ok := AppendTooBig([]byte{9, 9}, packetOf(t, "10.1.0.1", "10.2.0.2", layers.IPProtocolTCP, payload), 1340)
	if !ok || m[0] != 9 || len(m) != 2+576 {
		t.Fatalf("%v, %d bytes", ok, len(m))
	}
	p := gopacket.NewPacket(m[2:], layers.LayerTypeIPv4, gopacket.Default)
	ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	icmp, _ := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if ip == nil || icmp == nil || ip.SrcIP.String() != "10.2.0.2" || ip.DstIP.String() != "10.1.0.1" ||
		icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || icmp.Seq != 1340 {
		t.Errorf("%v", p)
	}
	if fold(sum(m[2:22], 0)) != 0xffff || fold(sum(m[22:], 0)) != 0xffff {
		t.Error("wrong checksum")
	}
	m, ok = AppendTooBig(nil, packetOf(t, "fd00::1", "fd00::2", layers.IPProtocolUDP, payload), 1280)
	if !ok || len(m) != 1280 {
		t.Fatalf("%v, %d bytes", ok, len(m))
	}
	p = gopacket.NewPacket(m, layers.LayerTypeIPv6, gopacket.Default)
	icmp6, _ := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if icmp6 == nil || icmp6.TypeCode.Type() != layers.ICMPv6TypePacketTooBig || binary.BigEndian.Uint32(icmp6.Payload) != 1280 {
		t.Errorf("%v", p)
	}
	pseudo := sum(m[8:40], uint32(len(m)-40)+58)
	if fold(sum(m[40:], pseudo)) != 0xffff {
		t.Error("wrong checksum")
	}
}

func TestAppendTooBig_saysNothingToWhomItMustNot(t *testing.T) {
	t.Parallel()
	payload := bytes.Repeat([]byte{8}, 1400)
	fragment := packetOf(t, "10.1.0.1", "10.2.0.2", layers.IPProtocolUDP, payload)
	fragment[7] = 100
	for what, pkt := range map[string][]byte{
		"from multicast":       packetOf(t, "224.0.0.1", "10.2.0.2", layers.IPProtocolUDP, payload),
		"from nobody":          packetOf(t, "0.0.0.0", "10.2.0.2", layers.IPProtocolUDP, payload),
		"from the loopback":    packetOf(t, "127.0.0.1", "10.2.0.2", layers.IPProtocolUDP, payload),
		"to multicast":         packetOf(t, "10.1.0.1", "224.0.0.1", layers.IPProtocolUDP, payload),
		"to everybody":         packetOf(t, "10.1.0.1", "255.255.255.255", layers.IPProtocolUDP, payload),
		"a later fragment":     fragment,
		"an error":             packetOf(t, "10.1.0.1", "10.2.0.2", layers.IPProtocolICMPv4, bytes.Repeat([]byte{3}, 1400)),
		"an error of IPv6":     packetOf(t, "fd00::1", "fd00::2", layers.IPProtocolICMPv6, bytes.Repeat([]byte{1}, 1400)),
		"from nobody, IPv6":    packetOf(t, "::", "fd00::2", layers.IPProtocolUDP, payload),
		"to multicast, IPv6":   packetOf(t, "fd00::1", "ff02::1", layers.IPProtocolUDP, payload),
		"from multicast, IPv6": packetOf(t, "ff02::1", "fd00::2", layers.IPProtocolUDP, payload),
		"nothing":              nil,
	} {
		if m, ok := AppendTooBig(nil, pkt, 1300); ok || len(m) != 0 {
			t.Errorf("%s: %d bytes", what, len(m))
		}
	}
	echo := packetOf(t, "10.1.0.1", "10.2.0.2", layers.IPProtocolICMPv4, payload)
	if _, ok := AppendTooBig(nil, echo, 1300); !ok {
		t.Error("the sender of an echo request is not told")
	}
}

func FuzzTooBig(f *testing.F) {
	f.Add(packetOf(f, "10.1.0.1", "10.2.0.2", layers.IPProtocolUDP, make([]byte, 1400)), 1300)
	f.Add(packetOf(f, "fd00::1", "fd00::2", layers.IPProtocolUDP, make([]byte, 1400)), 1280)
	f.Fuzz(func(t *testing.T, pkt []byte, limit int) {
		if m, ok := AppendTooBig(nil, pkt, limit); ok && len(m) > 1280 {
			t.Fatalf("%d bytes", len(m))
		}
		if _, ok := ParseHeader(pkt); !ok || pkt[0]>>4 != 4 || !MayFragment(pkt) || limit < 28 || limit > 65535 {
			return
		}
		h, _ := ParseHeader(pkt)
		first, second, ok := Fragment(nil, nil, pkt[:h.Length], limit)
		if !ok {
			return
		}
		if len(first) > limit || len(second) > limit || !bytes.Equal(append(first[20:], second[20:]...), pkt[20:h.Length]) {
			t.Fatalf("%d and %d bytes of %d, limit %d", len(first), len(second), h.Length, limit)
		}
	})
}

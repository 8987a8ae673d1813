package l2

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/drop"
)

const vrrpMAC MAC = 0x00005e000107

func vrrp4(t testing.TB, src MAC, to string, ttl uint8, proto layers.IPProtocol) []byte {
	ip := ip4("10.0.0.2", to, proto)
	ip.TTL = ttl
	group := net.ParseIP(to).To4()
	dst := 0x01005e000000 | MAC(binary.BigEndian.Uint32(group)&0x7fffff)
	return serialize(t, ethLayer(dst, src, layers.EthernetTypeIPv4), ip, gopacket.Payload(make([]byte, 20)))
}

func vrrp6(t testing.TB, src MAC, to string) []byte {
	group := net.ParseIP(to)
	dst := 0x333300000000 | MAC(binary.BigEndian.Uint32(group[12:]))
	return serialize(t, ethLayer(dst, src, layers.EthernetTypeIPv6),
		ip6("fe80::2", to, layers.IPProtocolVRRP), gopacket.Payload(make([]byte, 24)))
}

func groupMAC(group string) MAC {
	ip := net.ParseIP(group)
	if v4 := ip.To4(); v4 != nil {
		return 0x01005e000000 | MAC(binary.BigEndian.Uint32(v4)&0x7fffff)
	}
	return 0x333300000000 | MAC(binary.BigEndian.Uint32(ip[12:]))
}

// TestSwitch_electionsPassWithASharedAddress: a router on our LAN has the address, and a peer sends
// from it. Only election messages are forwarded, and the address stays where it is.
func TestSwitch_electionsPassWithASharedAddress(t *testing.T) {
	t.Parallel()
	nested := append(vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP)[:12:12], 0x88, 0xa8, 0, 0)
	nested = append(nested, vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP)[12:]...)
	fragment := vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP)
	fragment[headerLen+6] = 0x20
	short := vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP)[:headerLen+19]
	wrongGroup := vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP)
	Broadcast.Put(wrongGroup)
	unicast := vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP)
	hostMAC(9).Put(unicast)
	hello := func(src MAC, to string, port uint16) []byte {
		return udp4(t, groupMAC(to), src, "10.0.0.2", to, port, port, make([]byte, 20))
	}
	hello6 := func(src MAC, to string, port uint16) []byte {
		return udp6(t, groupMAC(to), src, "fe80::2", to, port, port, make([]byte, 20))
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  drop.Reason
	}{
		{"VRRP and CARP", vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP), drop.None},
		{"VRRP for IPv6", vrrp6(t, 0x00005e000207, "ff02::12"), drop.None},
		{"HSRP", hello(0x00000c07ac01, "224.0.0.2", portHSRP), drop.None},
		{"HSRP version 2", hello(0x00000c9ff001, "224.0.0.102", portHSRP), drop.None},
		{"HSRP for IPv6", hello6(0x000573a00001, "ff02::66", portHSRP6), drop.None},
		{"GLBP", hello(0x0007b4000101, "224.0.0.102", portGLBP), drop.None},
		{"GLBP for IPv6", hello6(0x0007b4000101, "ff02::66", portGLBP), drop.None},

		{"VRRP from a host's address", vrrp4(t, hostMAC(1), "224.0.0.18", 255, protoVRRP), drop.SourceForeign},
		{"VRRP from beside the range", vrrp4(t, 0x00005e000307, "224.0.0.18", 255, protoVRRP), drop.SourceForeign},
		{"VRRP that passed a router", vrrp4(t, vrrpMAC, "224.0.0.18", 254, protoVRRP), drop.SourceForeign},
		{"VRRP to another group", vrrp4(t, vrrpMAC, "224.0.0.19", 255, protoVRRP), drop.SourceForeign},
		{"another protocol to VRRP's group", vrrp4(t, vrrpMAC, "224.0.0.18", 255, 89), drop.SourceForeign},
		{"VRRP as a broadcast", wrongGroup, drop.SourceForeign},
		{"VRRP to one host", unicast, drop.SourceForeign},
		{"VRRP in a service tag", nested, drop.DoubleTag},
		{"a fragment", fragment, drop.SourceForeign},
		{"a stump", short, drop.SourceForeign},
		{"another port of HSRP's group", hello(0x00000c07ac01, "224.0.0.2", 1986), drop.SourceForeign},
		{"ARP", gratuitous(t, vrrpMAC, "10.0.0.1"), drop.SourceForeign},
		{"anything else", eth(Broadcast, vrrpMAC, typeIPv4), drop.SourceForeign},
	} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		h, _ := Parse(c.frame)
		fromDevice(s, start, eth(Broadcast, h.Src, 0x1234))
		for i := range 3 {
			if v, r := fromPeer(s, at(time.Duration(i)*ms), 1, c.frame); r != c.want || v.ToDevice != (r == drop.None) {
				t.Errorf("%s: %v, to device %v; want %v", c.name, r, v.ToDevice, c.want)
			}
		}
		if id, ok := portOf(s, 0, h.Src); !ok || id != LocalPort {
			t.Errorf("%s: the address is at port %d, %v", c.name, id, ok)
		}
	}
}

// TestSwitch_twoMastersAgree: the router with the shared address at the other site is to win. Ours
// receives its message and stops, and the address moves.
func TestSwitch_twoMastersAgree(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	fromDevice(s, start, gratuitous(t, vrrpMAC, "10.0.0.1"))
	advert := vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP)
	heard := false
	for d := time.Duration(0); d < 5*time.Second; d += 100 * ms {
		now := at(10*time.Second + d)
		if !heard { // our router steps down on the first message from the other
			fromDevice(s, now, advert)
		}
		if d%time.Second == 0 {
			v, r := fromPeer(s, now, 1, advert)
			if r != drop.None || !v.ToDevice {
				t.Fatalf("after %v: %v, to device %v", d, r, v.ToDevice)
			}
			heard = true
		}
		s.Tick(now)
	}
	if id, ok := portOf(s, 0, vrrpMAC); !ok || id != 1 {
		t.Errorf("the address is at port %d, %v; want 1", id, ok)
	}
}

// TestSwitch_pinnedSharedAddressStaysRefused: pinning the address of a group takes precedence.
func TestSwitch_pinnedSharedAddressStaysRefused(t *testing.T) {
	t.Parallel()
	advert := vrrp4(t, vrrpMAC, "224.0.0.18", 255, protoVRRP)
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{MACs: []MAC{vrrpMAC}})
	if _, r := fromPeer(s, start, 1, advert); r != drop.SourceForeign {
		t.Errorf("pinned in the configuration: %v", r)
	}
	s = newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	if err := s.Pin(start, 0, vrrpMAC, LocalPort); err != nil {
		t.Fatal(err)
	}
	if _, r := fromPeer(s, start, 1, advert); r != drop.SourceForeign {
		t.Errorf("pinned by hand: %v", r)
	}
}

package l2

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// start is the time at which tests begin. It is not 0, which means "never".
const start = boottime.Time(1000 * time.Second)

func at(d time.Duration) boottime.Time { return start.Add(d) }

// fixedRandom is a reader that returns a repeatable stream.
type fixedRandom struct{ *rand.ChaCha8 }

func newRandom(seed byte) *fixedRandom { return &fixedRandom{rand.NewChaCha8([32]byte{seed})} }

func newSwitch(t testing.TB, cfg Config) *Switch {
	t.Helper()
	s, err := New(cfg, newRandom(1))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// SetPort is SetPorts with one port.
func (s *Switch) SetPort(id PortID, cfg PortConfig) error {
	return s.SetPorts(map[PortID]PortConfig{id: cfg}, nil)
}

// RemovePort is SetPorts with the removal of one port, which cannot fail.
func (s *Switch) RemovePort(id PortID) { _ = s.SetPorts(nil, []PortID{id}) }

// addPeer adds a port that is up and whose peer has said that it carries Ethernet.
func addPeer(t testing.TB, s *Switch, id PortID, cfg PortConfig) {
	t.Helper()
	cfg.Ethernet = true
	if cfg.Name == "" {
		cfg.Name = string(rune('a' + id))
	}
	if err := s.SetPort(id, cfg); err != nil {
		t.Fatal(err)
	}
	s.SetPortUp(id, true, start)
	h := Hello{Version: 1, Ethernet: true, MTU: 9000, Node: testNode(id), Clock: second(start)}
	if r := s.Control(start, id, h.Append(nil)); r != drop.None {
		t.Fatalf("hello: %v", r)
	}
	s.Tick(start)
}

// testNode is the node name that addPeer gives a peer.
func testNode(id PortID) uint64 { return uint64(id)<<32 | uint64(id) }

// hostMAC returns the MAC of test host n.
func hostMAC(n int) MAC { return 0x020000_000000 | MAC(n) }

func hw(m MAC) net.HardwareAddr {
	b := make([]byte, 6)
	m.Put(b)
	return b
}

// eth returns a frame with the given tags ({} is untagged) and 46 bytes of payload.
func eth(dst, src MAC, etherType uint16, tags ...uint16) []byte {
	b := make([]byte, 12, 80)
	dst.Put(b)
	src.Put(b[6:])
	for _, t := range tags {
		b = append(b, 0x81, 0, byte(t>>8), byte(t))
	}
	b = append(b, byte(etherType>>8), byte(etherType))
	return append(b, make([]byte, 46)...)
}

// serialize builds a frame from layers with gopacket, as an independent implementation of every
// format.
func serialize(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), buf.Bytes()...)
}

func ethLayer(dst, src MAC, typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: hw(dst), SrcMAC: hw(src), EthernetType: typ}
}

// arp returns an ARP packet: a request if the target MAC is zero, otherwise a reply.
func arp(t testing.TB, op uint16, dst, src MAC, srcIP string, target MAC, targetIP string) []byte {
	t.Helper()
	return serialize(t, ethLayer(dst, src, layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: hw(src), SourceProtAddress: net.ParseIP(srcIP).To4(),
		DstHwAddress: hw(target), DstProtAddress: net.ParseIP(targetIP).To4(),
	})
}

func ip6(src, dst string, next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: next, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func ip4(src, dst string, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
}

// icmp6 returns an ICMPv6 message with the given body behind optional raw extension headers.
func icmp6(t testing.TB, dst, src MAC, from, to string, typ uint8, body []byte) []byte {
	t.Helper()
	ip := ip6(from, to, layers.IPProtocolICMPv6)
	c := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	_ = c.SetNetworkLayerForChecksum(ip)
	return serialize(t, ethLayer(dst, src, layers.EthernetTypeIPv6), ip, c, gopacket.Payload(body))
}

// udp4 and udp6 return a UDP datagram.
func udp4(t testing.TB, dst, src MAC, from, to string, sport, dport uint16, body []byte) []byte {
	t.Helper()
	ip := ip4(from, to, layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	_ = u.SetNetworkLayerForChecksum(ip)
	return serialize(t, ethLayer(dst, src, layers.EthernetTypeIPv4), ip, u, gopacket.Payload(body))
}

func udp6(t testing.TB, dst, src MAC, from, to string, sport, dport uint16, body []byte) []byte {
	t.Helper()
	ip := ip6(from, to, layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	_ = u.SetNetworkLayerForChecksum(ip)
	return serialize(t, ethLayer(dst, src, layers.EthernetTypeIPv6), ip, u, gopacket.Payload(body))
}

// fromDevice and fromPeer pass one frame through s.
func fromDevice(s *Switch, now boottime.Time, frame []byte) (*Verdict, drop.Reason) {
	v := new(Verdict)
	r := s.FromDevice(now, Superpacket{Frame: frame}, v)
	return v, r
}

func fromPeer(s *Switch, now boottime.Time, from PortID, frame []byte) (*Verdict, drop.Reason) {
	v := new(Verdict)
	r := s.FromPeer(now, from, 0, Superpacket{Frame: frame}, v)
	return v, r
}

// outPorts returns the ports in a verdict.
func outPorts(v *Verdict) []PortID {
	var ids []PortID
	for _, o := range v.Out {
		ids = append(ids, o.Port)
	}
	return ids
}

// portOf returns the port at which the FDB has a MAC.
func portOf(s *Switch, vid uint16, mac MAC) (PortID, bool) {
	v, _, ok := s.fdb.find(entryKey(vid, mac))
	return v.port(), ok
}

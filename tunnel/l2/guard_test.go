package l2

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/drop"
)

// fragment6 returns an IPv6 packet with the extension headers in ext (the first is of kind first)
// before body.
func fragment6(t testing.TB, src MAC, first layers.IPProtocol, ext, body []byte) []byte {
	t.Helper()
	return serialize(t, ethLayer(0x333300000001, src, layers.EthernetTypeIPv6),
		ip6("fe80::1", "ff02::1", first), gopacket.Payload(append(append([]byte(nil), ext...), body...)))
}

// attacks are frames of a hostile peer, each with the reason for which it must be refused.
func attacks(t testing.TB) map[string]struct {
	frame []byte
	want  drop.Reason
} {
	evil := hostMAC(66)
	ra := make([]byte, 12)
	offer := make([]byte, 240)
	offer[0] = bootReply
	type attack = struct {
		frame []byte
		want  drop.Reason
	}
	plainRA := icmp6(t, 0x333300000001, evil, "fe80::1", "ff02::1", icmp6RouterAdvert, ra)
	snapRA := append([]byte(nil), plainRA[:12]...)
	snapRA = append(snapRA, 0, byte(8+len(plainRA)-14), 0xaa, 0xaa, 3, 0, 0, 0)
	snapRA = append(snapRA, plainRA[12:]...)
	longSNAP, oddSNAP := bytes.Clone(snapRA), bytes.Clone(snapRA)
	binary.BigEndian.PutUint16(longSNAP[12:], 0x05dc)
	binary.BigEndian.PutUint16(oddSNAP[12:], 0x05ff)
	tagged := func(frame []byte, tags ...uint16) []byte {
		out := append([]byte(nil), frame[:12]...)
		for _, v := range tags {
			out = append(out, 0x81, 0, byte(v>>8), byte(v))
		}
		return append(out, frame[12:]...)
	}
	bpdu := serialize(t, &layers.Ethernet{SrcMAC: hw(evil), DstMAC: hw(macBPDU), EthernetType: layers.EthernetTypeLLC, Length: 38},
		gopacket.Payload(append([]byte{0x42, 0x42, 3}, make([]byte, 35)...)))
	shortUDP := serialize(t, ethLayer(hostMAC(1), evil, layers.EthernetTypeIPv4),
		&layers.IPv4{Version: 4, TTL: 64, Protocol: 17, Flags: layers.IPv4MoreFragments, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}, gopacket.Payload{0, 67})
	oversize := eth(hostMAC(1), evil, 0x1234)
	oversize = append(oversize, make([]byte, 1501+14-len(oversize))...)
	return map[string]attack{
		"router advertisement":                {plainRA, drop.GuardRA},
		"RA behind a priority tag":            {tagged(plainRA, 0), drop.GuardRA},
		"RA behind two priority tags":         {tagged(plainRA, 0, 0), drop.DoubleTag},
		"RA in LLC/SNAP":                      {snapRA, drop.GuardRA},
		"RA in SNAP, length beyond the end":   {longSNAP, drop.GuardRA},
		"RA in SNAP, no length at all":        {oddSNAP, drop.GuardRA},
		"RA behind a destination option":      {fragment6(t, evil, protoDestOpts, []byte{58, 0, 1, 4, 0, 0, 0, 0}, []byte{134, 0, 0, 0, 0, 0, 0, 0}), drop.GuardRA},
		"RA in an atomic fragment":            {fragment6(t, evil, protoFragment, []byte{58, 0, 0, 0, 1, 2, 3, 4}, []byte{134, 0, 0, 0, 0, 0, 0, 0}), drop.GuardRA},
		"first fragment without upper header": {fragment6(t, evil, protoFragment, []byte{60, 0, 0, 1, 1, 2, 3, 4}, nil), drop.GuardRA},
		"fragmented neighbour advertisement":  {fragment6(t, evil, protoFragment, []byte{58, 0, 0, 1, 1, 2, 3, 4}, []byte{136, 0, 0, 0, 0, 0, 0, 0}), drop.GuardRA},
		"endless extension headers":           {fragment6(t, evil, protoDestOpts, bytes.Repeat([]byte{protoDestOpts, 0, 1, 4, 0, 0, 0, 0}, 20), nil), drop.GuardRA},
		"redirect":                            {icmp6(t, hostMAC(1), evil, "fe80::1", "fe80::2", icmp6Redirect, make([]byte, 36)), drop.GuardRA},
		"DHCP offer, broadcast":               {udp4(t, Broadcast, evil, "10.0.0.1", "255.255.255.255", 67, 68, offer), drop.GuardDHCP},
		"DHCP offer, unicast":                 {udp4(t, hostMAC(1), evil, "10.0.0.1", "10.0.0.9", 67, 68, offer), drop.GuardDHCP},
		"DHCP offer from another port":        {udp4(t, hostMAC(1), evil, "10.0.0.1", "10.0.0.9", 1067, 68, offer), drop.GuardDHCP},
		"DHCP reply to a relay":               {udp4(t, hostMAC(1), evil, "10.0.0.1", "10.0.0.9", 67, 67, offer), drop.GuardDHCP},
		"DHCP in a tiny fragment":             {shortUDP, drop.GuardDHCP},
		"DHCPv6 advertise":                    {udp6(t, hostMAC(1), evil, "fe80::1", "fe80::2", 547, 546, make([]byte, 20)), drop.GuardDHCP},
		"spanning tree":                       {bpdu, drop.BPDU},
		"Cisco per-VLAN spanning tree":        {eth(macCiscoPVST, evil, 46), drop.BPDU},
		"DTP":                                 {eth(macCiscoLink, evil, 46), drop.LinkLocalFrame},
		"LLDP":                                {eth(0x0180c200000e, evil, typeLLDP), drop.LinkLocalFrame},
		"LACP":                                {eth(0x0180c2000002, evil, typeSlow), drop.LinkLocalFrame},
		"PAUSE to unicast":                    {eth(hostMAC(1), evil, typeMACCtl), drop.LinkLocalFrame},
		"GVRP":                                {eth(0x0180c2000021, evil, 46), drop.LinkLocalFrame},
		"VLAN hop by double tag":              {tagged(udp4(t, hostMAC(1), evil, "10.0.0.1", "10.0.0.9", 1, 2, nil), 1, 20), drop.DoubleTag},
		"foreign VLAN":                        {eth(hostMAC(1), evil, typeIPv4, 30), drop.VLANRefused},
		"multicast source":                    {eth(hostMAC(1), 0x01005e000005, typeIPv4), drop.SourceMulticast},
		"broadcast source":                    {eth(hostMAC(1), Broadcast, typeIPv4), drop.SourceMulticast},
		"zero source":                         {eth(hostMAC(1), 0, typeIPv4), drop.SourceMulticast},
		"13 bytes":                            {eth(hostMAC(1), evil, typeIPv4)[:13], drop.ShortFrame},
		"truncated tag":                       {eth(hostMAC(1), evil, typeIPv4, 5)[:16], drop.ShortFrame},
		"oversize":                            {oversize, drop.OversizeFrame},
		"MAC of a local host":                 {eth(hostMAC(2), hostMAC(1), typeIPv4), drop.SourceForeign},
		"MAC of another peer's host":          {eth(hostMAC(1), hostMAC(2), typeIPv4), drop.SourceForeign},
	}
}

// TestSwitch_attacksAreRefusedByNameAndTeachNothing sends each attack from a peer.
func TestSwitch_attacksAreRefusedByNameAndTeachNothing(t *testing.T) {
	t.Parallel()
	for name, a := range attacks(t) {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "evil"})
		addPeer(t, s, 2, PortConfig{Name: "good"})
		fromDevice(s, start, eth(Broadcast, hostMAC(1), typeIPv4))
		fromPeer(s, start, 2, eth(Broadcast, hostMAC(2), typeIPv4))
		before := len(s.Entries(start))
		v, r := fromPeer(s, at(time.Second), 1, a.frame)
		if r != a.want || v.ToDevice || len(v.Out) > 0 {
			t.Errorf("%s: %v, to device %v; want %v", name, r, v.ToDevice, a.want)
		}
		if s.Drops(1, a.want) != 1 {
			t.Errorf("%s: not counted as %v", name, a.want)
		}
		if n := len(s.Entries(start)); n != before {
			t.Errorf("%s: %d entries, before %d", name, n, before)
		}
	}
}

// TestSwitch_attackFramesMayLeaveTheLANOnlyWhenTheyAreNone: link-local frames from the TAP are not
// forwarded; DHCP and router advertisements are for the receivers to judge.
func TestSwitch_attackFramesFromTheTAP(t *testing.T) {
	t.Parallel()
	for name, a := range attacks(t) {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		want := a.want
		switch want {
		case drop.GuardDHCP, drop.GuardRA, drop.SourceForeign:
			want = drop.None
		}
		if _, r := fromDevice(s, start, a.frame); r != want {
			t.Errorf("%s: %v, want %v", name, r, want)
		}
	}
}

func TestSwitch_trustedPeersMayServe(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{TrustDHCP: true})
	addPeer(t, s, 2, PortConfig{TrustRA: true})
	for name, a := range attacks(t) {
		if a.want != drop.GuardDHCP && a.want != drop.GuardRA {
			continue
		}
		binary.BigEndian.PutUint16(a.frame[10:], 0x1111) // a different source for each port
		_, r1 := fromPeer(s, at(time.Hour), 1, a.frame)
		binary.BigEndian.PutUint16(a.frame[10:], 0x2222)
		_, r2 := fromPeer(s, at(time.Hour), 2, a.frame)
		dhcp := a.want == drop.GuardDHCP
		if dhcp != (r1 == drop.None) {
			t.Errorf("%s from the peer trusted with DHCP: %v", name, r1)
		}
		// Fragments that could be either kind are accepted from a trusted router.
		if dhcp && r2 != drop.GuardDHCP || !dhcp && r2 != drop.None && name != "first fragment without upper header" && name != "endless extension headers" {
			t.Errorf("%s from the peer trusted with RA: %v", name, r2)
		}
	}
	honest := map[string][]byte{
		"DHCP discover":  udp4(t, Broadcast, hostMAC(5), "0.0.0.0", "255.255.255.255", 68, 67, append([]byte{1}, make([]byte, 239)...)),
		"relayed":        udp4(t, hostMAC(6), hostMAC(5), "10.0.0.3", "10.0.0.1", 67, 67, append([]byte{1}, make([]byte, 239)...)),
		"DHCPv6 solicit": udp6(t, 0x333300010002, hostMAC(5), "fe80::1", "ff02::1:2", 546, 547, make([]byte, 20)),
		"router solicit": icmp6(t, 0x333300000002, hostMAC(5), "fe80::1", "ff02::2", icmp6RouterSolicit, make([]byte, 4)),
		"echo":           icmp6(t, hostMAC(6), hostMAC(5), "fe80::1", "fe80::2", 128, make([]byte, 40)),
		"big fragment":   fragment6(t, hostMAC(5), protoFragment, []byte{17, 0, 0, 1, 1, 2, 3, 4}, make([]byte, 64)),
		"later fragment": fragment6(t, hostMAC(5), protoFragment, []byte{58, 0, 4, 0, 1, 2, 3, 4}, make([]byte, 64)),
	}
	for name, frame := range honest {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		if _, r := fromPeer(s, start, 1, frame); r != drop.None {
			t.Errorf("%s from an untrusted peer: %v", name, r)
		}
	}
}

func TestSwitch_bpduPolicies(t *testing.T) {
	t.Parallel()
	bpdu := eth(macBPDU, hostMAC(1), 46)
	plain := eth(Broadcast, hostMAC(1), typeIPv4)
	for policy, want := range map[BPDUPolicy]drop.Reason{BPDUDrop: drop.BPDU, BPDUForward: drop.None, BPDUGuard: drop.BPDU} {
		s := newSwitch(t, Config{BPDU: policy})
		addPeer(t, s, 1, PortConfig{})
		if _, r := fromPeer(s, start, 1, bpdu); r != want {
			t.Errorf("policy %d: %v, want %v", policy, r, want)
		}
		wantAfter := drop.None
		if policy == BPDUGuard {
			wantAfter = drop.BPDU
		}
		if _, r := fromPeer(s, at(time.Second), 1, plain); r != wantAfter {
			t.Errorf("policy %d, then an ordinary frame: %v, want %v", policy, r, wantAfter)
		}
		if _, r := fromDevice(s, at(time.Second), eth(Broadcast, hostMAC(2), typeIPv4)); r != wantAfter {
			t.Errorf("policy %d, then towards it: %v, want %v", policy, r, wantAfter)
		}
		if _, r := fromPeer(s, at(bpduGuardTime), 1, plain); r != drop.None {
			t.Errorf("policy %d, 300 s later: %v", policy, r)
		}
	}
}

// TestSwitch_transparentLetsPassWhatIsNamed sends link-local frames, in both directions, through
// switches that forward each one of the protocols.
func TestSwitch_transparentLetsPassWhatIsNamed(t *testing.T) {
	t.Parallel()
	cisco := func(number ...byte) []byte {
		b := eth(macCiscoLink, hostMAC(1), 46)
		copy(b[headerLen:], append([]byte{0xaa, 0xaa, 3, 0, 0, 0x0c}, number...))
		return b
	}
	slow := func(subtype byte) []byte {
		b := eth(0x0180c2000002, hostMAC(1), typeSlow)
		b[headerLen] = subtype
		return b
	}
	stump := eth(0x0180c2000002, hostMAC(1), typeSlow)[:headerLen]
	for _, c := range []struct {
		name      string
		frame     []byte
		by        LinkProtocols
		otherwise drop.Reason
	}{
		{"LLDP", eth(0x0180c200000e, hostMAC(1), typeLLDP), LinkLLDP, drop.LinkLocalFrame},
		{"LLDP to the customer's bridge", eth(macBPDU, hostMAC(1), typeLLDP), LinkLLDP, drop.BPDU},
		{"802.1X", eth(0x0180c2000003, hostMAC(1), typeEAPOL), LinkEAPOL, drop.LinkLocalFrame},
		{"LACP", slow(slowLACP), LinkLACP, drop.LinkLocalFrame},
		{"marker", slow(slowMarker), LinkLACP, drop.LinkLocalFrame},
		{"OAM", slow(3), 0, drop.LinkLocalFrame},
		{"slow protocol without a subtype", stump, 0, drop.LinkLocalFrame},
		{"CDP", cisco(0x20, 0), LinkCDP, drop.LinkLocalFrame},
		{"DTP", cisco(0x20, 4), 0, drop.LinkLocalFrame},
		{"PTP peer delay", eth(0x0180c200000e, hostMAC(1), typePTP), LinkPTP, drop.LinkLocalFrame},
		{"MVRP", eth(0x0180c2000021, hostMAC(1), typeMVRP), LinkMVRP, drop.LinkLocalFrame},
		{"PAUSE", eth(0x0180c2000001, hostMAC(1), typeMACCtl), 0, drop.LinkLocalFrame},
		{"spanning tree", eth(macBPDU, hostMAC(1), 46), 0, drop.BPDU},
		{"something else to a reserved address", eth(0x0180c2000003, hostMAC(1), typeIPv4), 0, drop.LinkLocalFrame},
	} {
		for p := LinkProtocols(0); p <= LinkMVRP; p = max(1, 2*p) {
			s := newSwitch(t, Config{Transparent: p})
			addPeer(t, s, 1, PortConfig{})
			want := c.otherwise
			if p&c.by != 0 {
				want = drop.None
			}
			if _, r := fromDevice(s, start, c.frame); r != want {
				t.Errorf("%s from the TAP with %b: %v, want %v", c.name, p, r, want)
			}
			MACFromBytes([]byte{2, 0, 0, 0, 9, byte(p)}).Put(c.frame[6:])
			if v, r := fromPeer(s, start, 1, c.frame); r != want || v.ToDevice != (want == drop.None) {
				t.Errorf("%s from a peer with %b: %v, want %v", c.name, p, r, want)
			}
		}
	}
}

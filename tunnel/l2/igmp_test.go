package l2

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"tund/internal/drop"
)

func igmpQuery(t testing.TB) []byte {
	return igmp(t, hostMAC(66), "10.0.0.66", "224.0.0.1", []byte{0x11, 100, 0, 0, 0, 0, 0, 0})
}

func mldQuery(t testing.TB, from string) []byte {
	return mldFrom(t, hostMAC(66), from, "ff02::1", append([]byte{icmp6MLDQuery, 0, 0, 0, 0x27, 0x10, 0, 0}, make([]byte, 16)...))
}

// edited returns a copy of frame to which change was applied, with its checksums corrected.
func edited(frame []byte, change func(b []byte) []byte) []byte {
	b := change(slices.Clone(frame))
	ip := b[headerLen:]
	if ip[0]>>4 == 4 {
		s := segment4(ip)
		copy(ip[10:], []byte{0, 0})
		binary.BigEndian.PutUint16(ip[10:], ^checksum(ip[:s.off], 0))
		copy(ip[s.off+2:], []byte{0, 0})
		binary.BigEndian.PutUint16(ip[s.off+2:], ^checksum(ip[s.off:s.end], 0))
		return b
	}
	s := segment6(ip)
	msg := ip[s.off:s.end]
	copy(msg[2:], []byte{0, 0})
	binary.BigEndian.PutUint16(msg[2:], checksumICMPv6(ip, msg))
	return b
}

// set returns a function that changes one byte.
func set(at int, value byte) func([]byte) []byte {
	return func(b []byte) []byte { b[at] = value; return b }
}

// TestGroups_whatHostsIgnorePrunesNothing: queries that no host answers must not cause unreported
// groups to be pruned.
func TestGroups_whatHostsIgnorePrunesNothing(t *testing.T) {
	t.Parallel()
	q4, q6 := igmpQuery(t), mldQuery(t, "fe80::66")
	answered := at(12 * time.Second)
	const ip, hop = headerLen, headerLen + ipv6Header
	for _, c := range []struct {
		name   string
		query  []byte
		prunes bool
	}{
		{"IGMP", q4, true},
		{"IGMP, as by a bridge without address", edited(q4, func(b []byte) []byte { copy(b[ip+12:], make([]byte, 4)); return b }), true},
		{"IGMP, TTL 64", edited(q4, set(ip+8, 64)), false},
		{"IGMP, another option than router alert", edited(q4, set(ip+20, 130)), false},
		{"IGMP, router alert with another value", edited(q4, set(ip+23, 1)), false},
		{"IGMP, wrong checksum", set(ip+26, 0x55)(slices.Clone(q4)), false},
		{"IGMP, wrong header checksum", set(ip+10, q4[ip+10]^1)(slices.Clone(q4)), false},
		{"IGMP, from loopback", edited(q4, set(ip+12, 127)), false},
		{"IGMP, from a group", edited(q4, set(ip+12, 239)), false},
		{"IGMP, to another group", edited(q4, func(b []byte) []byte {
			copy(b[ip+16:], []byte{239, 0, 0, 1})
			MAC(0x01005e_000001).Put(b)
			return b
		}), false},
		{"IGMP, to another MAC", edited(q4, func(b []byte) []byte { group1MAC.Put(b); return b }), false},
		{"IGMP, a fragment", edited(q4, set(ip+6, 0x20)), false},
		{"IGMP, about one group", igmp2(t, hostMAC(66), 0x11, "239.9.9.9"), false},
		{"MLD", q6, true},
		{"MLD, hop limit 64", edited(q6, set(ip+7, 64)), false},
		{"MLD, global source", mldQuery(t, "2001:db8::66"), false},
		{"MLD, no source", mldQuery(t, "::"), false},
		{"MLD, no router alert", edited(q6, func(b []byte) []byte { copy(b[hop+2:], []byte{1, 4, 0, 0, 0, 0}); return b }), false},
		{"MLD, router alert for RSVP", edited(q6, set(hop+5, 1)), false},
		{"MLD, no hop-by-hop header", icmp6(t, 0x3333_00000001, hostMAC(66), "fe80::66", "ff02::1", icmp6MLDQuery, make([]byte, 20)), false},
		{"MLD, wrong checksum", set(hop+10, 0x55)(slices.Clone(q6)), false},
		{"MLD, to another MAC", edited(q6, func(b []byte) []byte { MAC(0x3333_12345678).Put(b); return b }), false},
		{"MLD, about one group", mld(t, hostMAC(66), "ff15::9",
			append([]byte{icmp6MLDQuery, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP("ff15::9")...)), false},
	} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "mallory"})
		addPeer(t, s, 2, PortConfig{Name: "victim"})
		if _, r := fromPeer(s, start, 1, c.query); c.prunes && r != drop.None {
			t.Fatalf("%s: %v", c.name, r)
		}
		for _, group := range []MAC{0x01005e_7ffffa, 0x3333_12345678} {
			v, _ := fromDevice(s, answered, stream(group))
			_, r := fromPeer(s, answered, 2, eth(group, hostMAC(51), 0x1234))
			pruned := len(v.Out) < 2 || r != drop.None
			family := group>>32 == 0x3333 == (segmentVersion(c.query) == 6)
			if want := c.prunes && family; pruned != want {
				t.Errorf("%s: %v to our peers %v, to our LAN %v; pruned: %v, want %v", c.name, group, outPorts(v), r, pruned, want)
			}
		}
	}
}

func segmentVersion(frame []byte) byte { return frame[headerLen] >> 4 }

// TestGroups_aLeaveThatRoutersIgnoreEndsNothing: the querier does not query after such a leave, so
// other listeners behind the port would be cut off.
func TestGroups_aLeaveThatRoutersIgnoreEndsNothing(t *testing.T) {
	t.Parallel()
	leave4, leave43 := igmp2(t, hostMAC(3), 0x17, group1), igmp3(t, hostMAC(3), 0, 3, group1)
	const group6, group6MAC = "ff15::1234:5678", MAC(0x3333_12345678)
	leave6 := mld(t, hostMAC(3), "ff02::2", append([]byte{icmp6MLDDone, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP(group6)...))
	leave62 := mld2(t, hostMAC(3), 3, group6)
	for _, c := range []struct {
		name  string
		leave []byte
		group MAC
		ends  bool
	}{
		{"IGMPv2", leave4, group1MAC, true},
		{"IGMPv2, TTL 2", edited(leave4, set(headerLen+8, 2)), group1MAC, false},
		{"IGMPv2, wrong checksum", set(headerLen+24+7, 9)(slices.Clone(leave4)), group1MAC, false},
		{"IGMPv3", leave43, group1MAC, true},
		{"IGMPv3, no router alert", edited(leave43, set(headerLen+20, 130)), group1MAC, false},
		{"MLDv1", leave6, group6MAC, true},
		{"MLDv1, hop limit 255", edited(leave6, set(headerLen+7, 255)), group6MAC, false},
		{"MLDv2", leave62, group6MAC, true},
		{"MLDv2, global source", mldFrom(t, hostMAC(3), "2001:db8::1", "ff02::16", leave62[headerLen+ipv6Header+8:]), group6MAC, false},
	} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		fromDevice(s, start, igmpQuery(t))
		fromDevice(s, start, mldQuery(t, "fe80::66"))
		fromPeer(s, start, 1, igmp3(t, hostMAC(2), 0, 4, group1))
		fromPeer(s, start, 1, mld2(t, hostMAC(2), 4, group6))
		fromPeer(s, at(12*time.Second), 1, c.leave)
		v, _ := fromDevice(s, at(21*time.Second), stream(c.group))
		if ended := len(v.Out) == 0; ended != c.ends {
			t.Errorf("%s: the membership ended: %v, want %v", c.name, ended, c.ends)
		}
	}
}

// TestGroups_neighbourDiscoveryReachesAll: whoever has reported the solicited-node group of a
// victim, and whatever is queried, solicitations and the other link-local protocols go everywhere.
func TestGroups_neighbourDiscoveryReachesAll(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "mallory"})
	addPeer(t, s, 2, PortConfig{Name: "victim"})
	fromPeer(s, start, 1, mldQuery(t, "fe80::66"))
	fromPeer(s, start, 1, igmpQuery(t))
	for _, group := range []string{"ff02::1:ff02:3456", "ff02::1:2", "ff02::1:3", "ff02::1234:5678"} {
		fromPeer(s, start, 1, mld2(t, hostMAC(66), 4, group))
	}
	if n := s.groups.total; n != 0 {
		t.Errorf("%d memberships of groups that are never pruned", n)
	}
	for _, frame := range [][]byte{
		neighborSolicit(t, hostMAC(8), "fe80::8", "fe80::1:2:3456"),
		udp6(t, 0x3333_00010002, hostMAC(8), "fe80::8", "ff02::1:2", 546, 547, make([]byte, 8)),
		udp6(t, 0x3333_00010003, hostMAC(8), "fe80::8", "ff02::1:3", 5355, 5355, make([]byte, 8)),
		udp6(t, 0x3333_12345678, hostMAC(8), "fe80::8", "ff02::1234:5678", 9, 9, make([]byte, 8)),
		udp4(t, 0x01005e_0000fb, hostMAC(8), "10.0.0.8", "224.0.0.251", 5353, 5353, make([]byte, 8)),
	} {
		if v, r := fromDevice(s, at(2*time.Second), frame); len(v.Out) != 2 {
			t.Errorf("to %v: %v, %v", MACFromBytes(frame), outPorts(v), r)
		}
		hostMAC(9).Put(frame[6:])
		if v, r := fromPeer(s, at(2*time.Second), 2, frame); r != drop.None || !v.ToDevice {
			t.Errorf("to %v, from the victim to our LAN: %v", MACFromBytes(frame), r)
		}
	}
}

package l2

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// igmp returns a realistic IGMP message: TTL 1, router alert, correct checksums.
func igmp(t testing.TB, src MAC, srcIP, dstIP string, body []byte) []byte {
	ip := ip4(srcIP, dstIP, layers.IPProtocolIGMP)
	ip.TTL = 1
	ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	dst := net.ParseIP(dstIP).To4()
	body = slices.Clone(body)
	binary.BigEndian.PutUint16(body[2:], ^checksum(body, 0))
	return serialize(t, ethLayer(0x01005e000000|MAC(binary.BigEndian.Uint32(dst)&0x7fffff), src, layers.EthernetTypeIPv4), ip, gopacket.Payload(body))
}

func igmp2(t testing.TB, src MAC, typ byte, group string) []byte {
	to := group
	switch {
	case typ == 0x17:
		to = "224.0.0.2"
	case typ == 0x11 && group == "0.0.0.0":
		to = "224.0.0.1"
	}
	return igmp(t, src, "10.0.0.1", to, append([]byte{typ, 0, 0, 0}, net.ParseIP(group).To4()...))
}

// igmp3 returns an IGMPv3 report; records are pairs of type and group, each with the given number
// of sources.
func igmp3(t testing.TB, src MAC, sources int, records ...any) []byte {
	body := []byte{0x22, 0, 0, 0, 0, 0, 0, byte(len(records) / 2)}
	for i := 0; i < len(records); i += 2 {
		body = append(body, byte(records[i].(int)), 0, 0, byte(sources))
		body = append(body, net.ParseIP(records[i+1].(string)).To4()...)
		body = append(body, make([]byte, 4*sources)...)
	}
	return igmp(t, src, "10.0.0.1", "224.0.0.22", body)
}

// mld returns a realistic MLD message: hop limit 1, router alert in a hop-by-hop header, correct
// checksum.
func mld(t testing.TB, src MAC, dst string, body []byte) []byte {
	return mldFrom(t, src, "fe80::1", dst, body)
}

func mldFrom(t testing.TB, src MAC, from, dst string, body []byte) []byte {
	to := net.ParseIP(dst)
	ip := ip6(from, dst, layers.IPProtocolIPv6HopByHop)
	ip.HopLimit = 1
	ext := []byte{58, 0, 5, 2, 0, 0, 1, 0}
	frame := serialize(t, ethLayer(0x333300000000|MAC(binary.BigEndian.Uint32(to[12:])), src, layers.EthernetTypeIPv6),
		ip, gopacket.Payload(append(ext, body...)))
	packet := frame[headerLen:]
	msg := packet[ipv6Header+len(ext):]
	binary.BigEndian.PutUint16(msg[2:], checksumICMPv6(packet, msg))
	return frame
}

func mld2(t testing.TB, src MAC, kind byte, group string) []byte {
	body := []byte{icmp6MLDv2Report, 0, 0, 0, 0, 0, 0, 1, kind, 0, 0, 0}
	return mld(t, src, "ff02::16", append(body, net.ParseIP(group)...))
}

func stream(group MAC) []byte { return eth(group, hostMAC(50), 0x1234) }

const group1, group1MAC = "239.1.2.3", MAC(0x01005e010203)

// TestGroups_pruneOnlyWhileAQuerierIsHeard: traffic is flooded, then sent only to members, then to
// nobody, then flooded again.
func TestGroups_pruneOnlyWhileAQuerierIsHeard(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, s, id, PortConfig{})
	}
	expect := func(when string, now boottime.Time, want ...PortID) {
		t.Helper()
		v, r := fromDevice(s, now, stream(group1MAC))
		if got := outPorts(v); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: sent to %v, want %v", when, got, want)
		}
		if wantReason := map[bool]drop.Reason{true: drop.SnoopedMulticast, false: drop.None}[len(want) == 0]; r != wantReason {
			t.Errorf("%s: %v, want %v", when, r, wantReason)
		}
	}
	fromPeer(s, start, 2, igmp2(t, hostMAC(2), 0x16, group1))
	expect("no querier", start, 1, 2, 3)
	fromPeer(s, start, 3, igmp(t, hostMAC(3), "0.0.0.0", "224.0.0.1", []byte{0x11, 1, 0, 0, 0, 0, 0, 0}))
	expect("hosts have not answered yet", at(time.Second), 1, 2, 3)
	expect("querier without address at 3, member at 2", at(2*time.Second), 2, 3)
	fromPeer(s, at(time.Second), 3, igmp2(t, hostMAC(3), 0x11, "0.0.0.0"))
	expect("querier with an address", at(2*time.Second), 2, 3)
	fromPeer(s, at(2*time.Second), 1, igmp3(t, hostMAC(1), 0, 4, group1))
	expect("version 3 member at 1", at(3*time.Second), 1, 2, 3)
	fromPeer(s, at(10*time.Second), 2, igmp2(t, hostMAC(2), 0x17, group1))
	expect("just after the leave", at(11*time.Second), 1, 2, 3)
	expect("after the last member query time", at(14*time.Second), 1, 3)
	fromPeer(s, at(15*time.Second), 1, igmp3(t, hostMAC(1), 0, 3, group1))
	expect("version 3 leave", at(19*time.Second), 3)
	if v, _ := fromDevice(s, at(19*time.Second), stream(0x01005e0000fb)); len(v.Out) != 3 {
		t.Errorf("mDNS goes to %v: 224.0.0.x is never pruned", v.Out)
	}
	if v, _ := fromDevice(s, at(19*time.Second), stream(0x01000c123456)); len(v.Out) != 3 {
		t.Errorf("multicast that is not IP goes to %v", v.Out)
	}
	expect("the querier is gone", at(time.Second*(querierInterval+2)), 1, 2, 3)
}

func TestGroups_mld(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	query := append([]byte{icmp6MLDQuery, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...)
	if _, r := fromDevice(s, start, mld(t, hostMAC(9), "ff02::1", query)); r != drop.None {
		t.Fatal(r)
	}
	fromPeer(s, start, 1, mld2(t, hostMAC(1), 4, "ff15::1234:5678"))
	fromPeer(s, start, 2, mld(t, hostMAC(2), "ff15::abcd:1", append([]byte{icmp6MLDReport, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP("ff15::abcd:1")...)))
	for mac, want := range map[MAC][]PortID{
		0x333312345678: {1}, 0x3333abcd0001: {2}, 0x333399999999: nil,
		0x333300000001: {1, 2}, 0x3333000000fb: {1, 2}, // all nodes, mDNS
		0x3333ff000077: {1, 2}, // solicited-node group without a member
	} {
		if v, _ := fromDevice(s, at(time.Second), stream(mac)); fmt.Sprint(outPorts(v)) != fmt.Sprint(want) {
			t.Errorf("%v goes to %v, want %v", mac, outPorts(v), want)
		}
	}
	if v, r := fromPeer(s, at(time.Second), 1, eth(0x333399999999, hostMAC(1), 0x1234)); r != drop.None || !v.ToDevice {
		t.Errorf("towards the LAN with the router: %v", r)
	}
}

// TestGroups_reportsReachALANOnlyWhereTheyAreWanted: elsewhere they would make hosts suppress their
// own reports.
func TestGroups_reportsReachALANOnlyWhereTheyAreWanted(t *testing.T) {
	t.Parallel()
	report := igmp2(t, hostMAC(1), 0x16, group1)
	for _, c := range []struct {
		name    string
		querier PortID
		want    drop.Reason
	}{{"querier on our LAN", LocalPort, drop.None}, {"querier behind another peer", 2, drop.SnoopedMulticast}, {"no querier", 9, drop.None}} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{})
		query := igmp(t, hostMAC(3), "0.0.0.0", "224.0.0.1", []byte{0x11, 100, 0, 0, 0, 0, 0, 0})
		switch c.querier {
		case LocalPort:
			fromDevice(s, start, query)
		case 2:
			fromPeer(s, start, 2, query)
		}
		if v, r := fromPeer(s, start, 1, report); r != c.want || v.ToDevice != (c.want == drop.None) {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
		own := igmp2(t, hostMAC(4), 0x16, group1)
		if v, r := fromDevice(s, start, own); r != drop.None || len(v.Out) != 2 {
			t.Errorf("%s: our own report goes to %v, %v; all peers need it", c.name, v.Out, r)
		}
	}
}

// TestGroups_fullTablesFailOpen: a port that reports too many groups gets all multicast.
func TestGroups_fullTablesFailOpen(t *testing.T) {
	t.Parallel()
	g := newGroups()
	g.observe(start, 2, 0, &membershipMessage{query: true})
	for i := range maxPortListeners + 10 {
		m := membershipMessage{report: true}
		m.add(0x01005e100000|MAC(i), true)
		g.observe(start, 1, 0, &m)
	}
	if g.total != maxPortListeners || len(g.members) != maxPortListeners {
		t.Errorf("%d memberships in %d groups", g.total, len(g.members))
	}
	answered := at(2 * time.Second)
	if p := g.plan(answered, 0, 0x01005e7fffff); !p.wants(1) || p.wants(3) {
		t.Error("the port that overflowed should get all multicast, and only it")
	}
	g.flush(1)
	if p := g.plan(answered, 0, 0x01005e7fffff); p.wants(1) || g.total != 0 || len(g.members) != 0 {
		t.Error("flush left something")
	}
}

// TestGroups_actAsTheModel compares random joins, leaves, queries and ageing with a model built
// from maps.
func TestGroups_actAsTheModel(t *testing.T) {
	t.Parallel()
	type member struct {
		vid   uint16
		group MAC
		port  PortID
	}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		g := newGroups()
		members, queriers, answered := map[member]boottime.Time{}, map[uint16]boottime.Time{}, map[uint16]boottime.Time{}
		now := start
		for step := range 2000 {
			now = now.Add(time.Duration(rng.IntN(4000)) * time.Millisecond)
			sec := floorSecond(now)
			k := member{uint16(rng.IntN(2)), 0x01005e010000 | MAC(rng.IntN(5)), PortID(rng.IntN(4))}
			var m membershipMessage
			switch rng.IntN(10) {
			case 0:
				m.query, m.response = true, rng.IntN(10)
				if queriers[k.vid] <= sec {
					answered[k.vid] = sec.Add(time.Duration(m.response+answerTransit) * time.Second)
				}
				queriers[k.vid] = sec.Add(querierInterval * time.Second)
			case 1:
				g.age(now)
				continue
			case 2:
				if rng.IntN(10) == 0 {
					g.flush(k.port)
					for o := range members {
						if o.port == k.port {
							delete(members, o)
						}
					}
				}
				continue
			case 3, 4:
				m.report = true
				m.add(k.group, false)
				if until, ok := members[k]; ok {
					members[k] = min(until, sec.Add(leaveInterval*time.Second))
				}
			default:
				m.report = true
				m.add(k.group, true)
				members[k] = sec.Add(memberInterval * time.Second)
			}
			g.observe(now, k.port, k.vid, &m)
			p := g.plan(now, k.vid, k.group)
			for port := range PortID(4) {
				want := queriers[k.vid] < sec || sec < answered[k.vid] || members[member{k.vid, k.group, port}] > sec
				if got := p.wants(port); got != want {
					t.Fatalf("seed %d step %d: port %d of %v: %v, want %v", seed, step, port, k.group, got, want)
				}
			}
		}
	}
}

func FuzzParseMembership(f *testing.F) {
	f.Add(igmp2(f, hostMAC(1), 0x16, group1))
	f.Add(igmp3(f, hostMAC(1), 2, 4, group1, 1, "239.1.1.1"))
	f.Add(mld2(f, hostMAC(1), 4, "ff15::1"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, ok := Parse(frame)
		if !ok {
			return
		}
		var m membershipMessage
		if !parseMembership(frame, &h, &m) {
			return
		}
		for _, r := range m.records[:m.n] {
			if !r.group.Group() {
				t.Fatalf("%v is no group", r.group)
			}
		}
		g := newGroups()
		g.observe(start, 1, 0, &m)
		if g.total > maxRecords {
			t.Fatalf("%d memberships from one frame", g.total)
		}
	})
}

// TestGroups_snoopingOff: multicast goes to all ports. When snooping is switched on again this
// continues until a querier is heard, because reports were missed in the meantime.
func TestGroups_snoopingOff(t *testing.T) {
	t.Parallel()
	const group MAC = 0x01005e010203
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	now := at(12 * time.Second) // hosts have answered
	receivers := func(what string, want ...PortID) {
		t.Helper()
		v, _ := fromDevice(s, now, stream(group))
		if got := outPorts(v); !slices.Equal(got, want) {
			t.Errorf("%s: the stream goes to %v, want %v", what, got, want)
		}
	}
	query, join := igmp2(t, hostMAC(1), 0x11, "0.0.0.0"), igmp2(t, hostMAC(2), 0x16, "239.1.2.3")
	fromDevice(s, start, query)
	fromPeer(s, start, 2, join)
	receivers("snooping", 2)
	if err := s.SetConfig(Config{NoSnooping: true}); err != nil {
		t.Fatal(err)
	}
	receivers("off", 1, 2)
	fromDevice(s, start, query)
	if v, r := fromPeer(s, start, 2, join); r != drop.None || !v.ToDevice {
		t.Errorf("a report does not reach the LAN: %v", r)
	}
	if v, r := fromPeer(s, start, 1, eth(group, hostMAC(60), 0x1234)); r != drop.None || !v.ToDevice {
		t.Errorf("a stream does not reach the LAN: %v", r)
	}
	receivers("off, after a query and a report", 1, 2)
	if err := s.SetConfig(Config{}); err != nil {
		t.Fatal(err)
	}
	receivers("on again, without a querier", 1, 2)
	fromDevice(s, now, query)
	fromPeer(s, now, 1, igmp2(t, hostMAC(3), 0x16, "239.1.2.3"))
	now = at(24 * time.Second)
	receivers("on again", 1)
}

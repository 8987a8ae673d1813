package l2

import (
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/drop"
)

// neighborSolicit requests target; neighborAdvert answers for it.
func neighborSolicit(t testing.TB, src MAC, from, target string) []byte {
	ip := net.ParseIP(target)
	body := append(make([]byte, 4), ip...)
	if from != "::" {
		body = append(append(body, 1, 1), hw(src)...)
	}
	dst := MAC(0x3333ff000000) | MAC(ip[13])<<16 | MAC(ip[14])<<8 | MAC(ip[15])
	return icmp6(t, dst, src, from, "ff02::1:ff00:1", icmp6NeighborSolicit, body)
}

func neighborAdvert(t testing.TB, dst, src MAC, ip string, router bool) []byte {
	body := append(make([]byte, 4), net.ParseIP(ip)...)
	body[0] = 0x60
	if router {
		body[0] |= 0x80
	}
	body = append(append(body, 2, 1), hw(src)...)
	return icmp6(t, dst, src, ip, "fe80::99", icmp6NeighborAdvert, body)
}

func suppressing(t testing.TB) *Switch {
	s := newSwitch(t, Config{NeighborSuppression: true})
	addPeer(t, s, 1, PortConfig{Name: "one"})
	addPeer(t, s, 2, PortConfig{Name: "two"})
	return s
}

// answering returns a switch that answers for hosts of port 1, whose peer gets no broadcasts.
func answering(t testing.TB) *Switch {
	s := newSwitch(t, Config{NeighborSuppression: true})
	addPeer(t, s, 1, PortConfig{Name: "one", NoBUM: true, VLANs: []uint16{0, 10}})
	addPeer(t, s, 2, PortConfig{Name: "two", VLANs: []uint16{0, 10}})
	return s
}

func TestNeighbors_answerForARemoteHost(t *testing.T) {
	t.Parallel()
	for _, tag := range [][]uint16{nil, {10}} {
		s := answering(t)
		remote, local := hostMAC(1), hostMAC(2)
		retag := func(frame []byte) []byte {
			if tag == nil {
				return frame
			}
			return append(append(append([]byte(nil), frame[:12]...), 0x81, 0, 0x60, 10), frame[12:]...)
		}
		fromPeer(s, start, 1, retag(gratuitous(t, remote, "10.0.0.1")))
		ask := retag(arp(t, 1, Broadcast, local, "10.0.0.2", 0, "10.0.0.1"))
		v, r := fromDevice(s, at(time.Second), ask)
		if r != drop.SuppressedARP {
			t.Fatalf("tag %v: %v", tag, r)
		}
		p := gopacket.NewPacket(v.Reply, layers.LayerTypeEthernet, gopacket.Default)
		a, _ := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		if a == nil || a.Operation != 2 || MACFromBytes(a.SourceHwAddress) != remote || MACFromBytes(a.DstHwAddress) != local ||
			net.IP(a.SourceProtAddress).String() != "10.0.0.1" || net.IP(a.DstProtAddress).String() != "10.0.0.2" {
			t.Fatalf("tag %v: reply %v", tag, p)
		}
		if h, _ := Parse(v.Reply); h.Dst != local || h.Src != remote || h.Tags != len(tag) {
			t.Errorf("tag %v: reply header %+v", tag, h)
		}
		if _, r := fromDevice(s, at(2*time.Second), ask); r != drop.None {
			t.Errorf("tag %v: asked again at once: %v; it must be flooded", tag, r)
		}
		fromPeer(s, at(5*time.Second), 1, retag(gratuitous(t, remote, "10.0.0.1")))
		if _, r := fromDevice(s, at(6*time.Second), ask); r != drop.SuppressedARP {
			t.Errorf("tag %v: asked later: %v", tag, r)
		}
		if _, r := fromDevice(s, at(90*time.Second), ask); r != drop.None {
			t.Errorf("tag %v: the host was not heard for 90 s: %v", tag, r)
		}
	}
}

func TestNeighbors_answerNDFromAdvertisementsOnly(t *testing.T) {
	t.Parallel()
	s := answering(t)
	router, host, asker := hostMAC(1), hostMAC(3), hostMAC(2)
	fromPeer(s, start, 1, neighborAdvert(t, hostMAC(9), router, "fe80::1", true))
	fromPeer(s, start, 1, neighborSolicit(t, host, "fe80::3", "fe80::77"))
	v, r := fromDevice(s, at(time.Second), neighborSolicit(t, asker, "fe80::2", "fe80::1"))
	if r != drop.SuppressedARP {
		t.Fatal(r)
	}
	p := gopacket.NewPacket(v.Reply, layers.LayerTypeEthernet, gopacket.Default)
	na, _ := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	ip, _ := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if na == nil || ip == nil || !na.Router() || !na.Solicited() || !na.Override() || na.TargetAddress.String() != "fe80::1" ||
		ip.DstIP.String() != "fe80::2" || ip.HopLimit != 255 || len(na.Options) != 1 || MACFromBytes(na.Options[0].Data) != router {
		t.Fatalf("reply %v", p)
	}
	packet := v.Reply[headerLen:]
	icmp := packet[ipv6Header:]
	if got := checksum(icmp, uint32(checksum(packet[8:40], 0))+uint32(len(icmp))+protoICMPv6); got != 0xffff {
		t.Errorf("checksum: %#x", got)
	}
	if _, r := fromDevice(s, at(time.Second), neighborSolicit(t, asker, "fe80::2", "fe80::3")); r != drop.None {
		t.Errorf("known from a solicitation only: %v, want it flooded", r)
	}
	if _, r := fromDevice(s, at(time.Second), neighborSolicit(t, asker, "::", "fe80::1")); r != drop.None {
		t.Errorf("duplicate address detection: %v, want it flooded", r)
	}
}

func TestNeighbors_neverMakeItWorse(t *testing.T) {
	t.Parallel()
	ask := func(n byte) []byte { return arp(t, 1, Broadcast, hostMAC(int(n)), "10.0.0.9", 0, "10.0.0.1") }
	for _, c := range []struct {
		name string
		do   func(s *Switch)
		ask  []byte
		want drop.Reason
	}{
		{"known", func(*Switch) {}, ask(9), drop.SuppressedARP},
		{"address probe", func(*Switch) {}, arp(t, 1, Broadcast, hostMAC(9), "0.0.0.0", 0, "10.0.0.1"), drop.None},
		{"announcement", func(*Switch) {}, arp(t, 1, Broadcast, hostMAC(9), "10.0.0.1", 0, "10.0.0.1"), drop.None},
		{"unicast question", func(*Switch) {}, arp(t, 1, hostMAC(1), hostMAC(9), "10.0.0.9", 0, "10.0.0.1"), drop.None},
		{"contested", func(s *Switch) { fromPeer(s, at(ms), 2, gratuitous(t, hostMAC(4), "10.0.0.1")) }, ask(9), drop.None},
		{"session gone", func(s *Switch) { s.SetPortUp(1, false, start) }, ask(9), drop.None},
		{"another sender inside", func(s *Switch) {
			s.Flush(Filter{})
			lie := gratuitous(t, hostMAC(4), "10.0.0.7")
			hostMAC(5).Put(lie[22:])
			fromPeer(s, start, 2, lie)
		}, arp(t, 1, Broadcast, hostMAC(9), "10.0.0.9", 0, "10.0.0.7"), drop.None},
		{"a claim is pending", func(s *Switch) { fromPeer(s, at(ms), 2, eth(Broadcast, hostMAC(1), 0x1234)) }, ask(9), drop.None},
		{"off", func(s *Switch) { s.SetConfig(Config{}) }, ask(9), drop.None},
	} {
		s := answering(t)
		fromPeer(s, start, 1, gratuitous(t, hostMAC(1), "10.0.0.1"))
		c.do(s)
		if _, r := fromDevice(s, at(time.Second), c.ask); r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
	}
}

// TestNeighbors_localQuestionsStayAtHome: only the first request is withheld from the peers, and
// only while the host is active.
func TestNeighbors_localQuestionsStayAtHome(t *testing.T) {
	t.Parallel()
	s := suppressing(t)
	fromDevice(s, start, gratuitous(t, hostMAC(1), "10.0.0.1"))
	ask := arp(t, 1, Broadcast, hostMAC(9), "10.0.0.9", 0, "10.0.0.1")
	v, r := fromDevice(s, at(time.Second), ask)
	if r != drop.SuppressedARP || v.Reply != nil {
		t.Errorf("first: %v, reply %x", r, v.Reply)
	}
	if v, r := fromDevice(s, at(2*time.Second), ask); r != drop.None || len(v.Out) != 2 {
		t.Errorf("repeated, nobody answered: %v", r)
	}
	if _, r := fromDevice(s, at(20*time.Second), ask); r != drop.None {
		t.Errorf("silent host: %v", r)
	}
}

// TestNeighbors_tableIsBounded: a peer invents hosts.
func TestNeighbors_tableIsBounded(t *testing.T) {
	t.Parallel()
	n := newNeighbors()
	for i := range 10 * maxNeighbors {
		m := neighborMessage{mac: hostMAC(i), ip: mapped4([]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
		n.observe(start, PortID(1+i%3), 0, m.mac, &m)
	}
	if len(n.table) != 3*maxPortHosts {
		t.Errorf("%d entries, want %d", len(n.table), 3*maxPortHosts)
	}
	n.flush(1)
	n.age(at((bindingLife + 1) * time.Second))
	if len(n.table) != 0 || n.perPort[1]+n.perPort[2]+n.perPort[3] != 0 {
		t.Errorf("%d entries left, %v", len(n.table), n.perPort)
	}
}

func FuzzParseNeighbor(f *testing.F) {
	f.Add(gratuitous(f, hostMAC(1), "10.0.0.1"))
	f.Add(neighborSolicit(f, hostMAC(1), "fe80::1", "fe80::2"))
	f.Add(neighborAdvert(f, hostMAC(2), hostMAC(1), "fe80::1", true))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, ok := Parse(frame)
		if !ok || h.Tags > 2 {
			return
		}
		var m neighborMessage
		if !parseNeighbor(frame, &h, &m) {
			return
		}
		if m.mac != 0 && m.mac != h.Src {
			t.Fatalf("a binding for %v from %v", m.mac, h.Src)
		}
		if m.ask {
			reply := appendAnswer(make([]byte, 0, 128), frame, &h, &m, hostMAC(7), true)
			if r, ok := Parse(reply); !ok || r.Dst != h.Src || len(reply) > 128 {
				t.Fatalf("reply %x", reply)
			}
		}
	})
}

// TestNeighbors_offInAVLANOrForAPeer: requests are flooded in VLANs, and for hosts of peers, for
// which suppression is switched off; and what became of requests is counted.
func TestNeighbors_offInAVLANOrForAPeer(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{NeighborSuppression: true, UnsuppressedVLANs: []uint16{10}})
	addPeer(t, s, 1, PortConfig{VLANs: []uint16{0, 10}, NoBUM: true})
	addPeer(t, s, 2, PortConfig{VLANs: []uint16{0, 10}, NoSuppression: true})
	own := hostMAC(9)
	tagged10 := func(frame []byte) []byte {
		return append(append(append([]byte(nil), frame[:12]...), 0x81, 0, 0, 10), frame[12:]...)
	}
	plain := func(frame []byte) []byte { return frame }
	fromDevice(s, start, gratuitous(t, hostMAC(3), "10.0.0.3"))
	for _, c := range []struct {
		name string
		port PortID
		tag  func([]byte) []byte
		want drop.Reason
	}{
		{"everything on", 1, plain, drop.SuppressedARP},
		{"off in the VLAN", 1, tagged10, drop.None},
		{"off for the peer", 2, plain, drop.None},
	} {
		mac, ip := hostMAC(int(c.port)), "10.0.0."+string(rune('0'+c.port))
		fromPeer(s, start, c.port, c.tag(gratuitous(t, mac, ip)))
		if _, r := fromDevice(s, at(time.Second), c.tag(arp(t, 1, Broadcast, own, "10.0.0.9", 0, ip))); r != c.want {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
	}
	fromDevice(s, at(time.Second), arp(t, 1, Broadcast, own, "10.0.0.9", 0, "10.0.0.3"))
	s.Tick(at(time.Second))
	s.Tick(at(3 * time.Second))
	if got, want := s.Suppression(), (Suppression{Answered: 1, Local: 1, Flooded: 1, Again: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if err := s.SetConfig(Config{NeighborSuppression: true}); err != nil {
		t.Fatal(err)
	}
	fromPeer(s, at(4*time.Second), 1, tagged10(gratuitous(t, hostMAC(1), "10.0.0.1")))
	if _, r := fromDevice(s, at(5*time.Second), tagged10(arp(t, 1, Broadcast, own, "10.0.0.9", 0, "10.0.0.1"))); r != drop.SuppressedARP {
		t.Errorf("switched on again in the VLAN: %v", r)
	}
}

package l2

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"tund/internal/drop"
)

// What a peer can do to others by messages that are well-formed, and lies.

// leaving returns the hello of a peer that leaves.
func leaving(id PortID) []byte {
	h := Hello{Version: 1, Leaving: true, MTU: 1500, Node: testNode(id)}
	return h.Append(nil)
}

// TestLying_comingAndGoingSendsNoMoreProbes: a peer says goodbye and hello again fifty times a
// second. Each time may be a new path between LANs, but our LAN and the other sites do not have to
// carry probes and multicast queries for each.
func TestLying_comingAndGoingSendsNoMoreProbes(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{MaxEntries: 256, Hub: true, Querier: true})
	vlans := []uint16{0, 10, 20, 30}
	addPeer(t, s, 1, PortConfig{VLANs: vlans})
	addPeer(t, s, 2, PortConfig{VLANs: vlans})
	const seconds = 60
	probes, queries, toOther := 0, 0, 0
	for i := range seconds * 50 {
		now := at(time.Duration(i) * 20 * time.Millisecond)
		s.Control(now, 1, leaving(1))
		h := Hello{Version: 1, Ethernet: true, MTU: 9000, Node: testNode(1), Clock: second(now)}
		if r := s.Control(now, 1, h.Append(nil)); r != drop.None {
			t.Fatal(r)
		}
		a := s.Tick(now)
		for _, frame := range a.ToDevice {
			switch h, _ := Parse(frame); h.EtherType {
			case typeProbe:
				probes++
			case typeIPv4:
				queries++
			}
		}
		for _, m := range a.ToPeers {
			if m.Port == 2 {
				toOther++
			}
		}
	}
	if most := (seconds + 2*8) * len(vlans) * 5 / 2; probes > most {
		t.Errorf("%d probes in %d s, want at most %d", probes, seconds, most)
	}
	if most := (seconds/queryResponse + 2*8) * len(vlans); queries > most {
		t.Errorf("%d rounds of queries in %d s, want at most %d", queries, seconds, most)
	}
	if most := seconds * 20; toOther > most {
		t.Errorf("%d messages to the other peer in %d s, want at most %d", toOther, seconds, most)
	}
}

// TestLying_aNewPeerIsStillAskedSoon: after all that, the hosts of another peer that comes up are
// asked for their groups, and a loop that it makes is looked for.
func TestLying_aNewPeerIsStillAskedSoon(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{MaxEntries: 256, Querier: true})
	addPeer(t, s, 1, PortConfig{})
	now := start
	for range 1000 {
		now = now.Add(20 * time.Millisecond)
		s.Control(now, 1, leaving(1))
		hear(t, s, now, 1, false)
		s.Tick(now)
	}
	s.Control(now, 1, leaving(1))
	addPeer(t, s, 2, PortConfig{})
	asked, probed := false, false
	for d := time.Duration(0); d <= (queryResponse+1)*time.Second; d += TickInterval {
		a := s.Tick(now.Add(d))
		probed = probed || d <= 2*ProbeInterval && findFrame(a.ToDevice, typeProbe) != nil
		for _, m := range a.ToPeers {
			asked = asked || m.Port == 2 && PayloadKind(m.Payload) == KindFrame
		}
	}
	if !asked || !probed {
		t.Errorf("the hosts of the new peer were asked: %v; probes were sent: %v", asked, probed)
	}
}

// TestLying_aPortThatOpensAgainIsNoNewsForAll: a peer of a hub returns the probe that it was sent,
// so that its port is blocked, then leaves and comes back, so that it is open again. What the other
// peers are sent for that is bounded.
func TestLying_aPortThatOpensAgainIsNoNewsForAll(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{MaxEntries: 256, Hub: true})
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, s, id, PortConfig{})
	}
	const seconds = 60
	var probe []byte
	blocked, sent := 0, 0
	for i := range seconds * 30 {
		now := at(time.Duration(i) * time.Second / 30)
		if probe != nil {
			s.Control(now, 1, probe)
			if s.view.Load().port(1).blocked != nil {
				blocked++
			}
		}
		s.Control(now, 1, leaving(1))
		hear(t, s, now, 1, false)
		for _, m := range s.Tick(now).ToPeers {
			kind, _, ok := parseControl(m.Payload)
			switch {
			case !ok:
			case kind == controlProbe && m.Port == 1:
				probe = slices.Clone(m.Payload)
			case kind == controlHello && m.Port == 2:
				sent++
			}
		}
	}
	if blocked < seconds {
		t.Fatalf("blocked %d times: the test shows nothing", blocked)
	}
	if most := seconds * 3 / 2; sent > most {
		t.Errorf("another peer was sent %d hellos in %d s, want at most %d", sent, seconds, most)
	}
}

// TestLying_theBridgeForgetsSeldom: a peer keeps changing what it says about two gateways of our
// LAN. The bridge of the TAP then does not forget the hosts of all peers each time; and not at all
// if no other switch sends probes on our LAN, because then there is no second gateway.
func TestLying_theBridgeForgetsSeldom(t *testing.T) {
	t.Parallel()
	for _, neighbour := range []bool{false, true} {
		s := newSwitch(t, Config{MaxEntries: 256})
		addPeer(t, s, 1, PortConfig{})
		flushes := 0
		const minutes = 5
		for i := range minutes * 60 * 20 {
			now := at(time.Duration(i) * 50 * time.Millisecond)
			if neighbour && i%1000 == 0 {
				fromDevice(s, now, newProber(77).frame(now))
			}
			s.Control(now, 1, cutMessage(0, []byte{cutStandby, cutOpen}[i%2]))
			if s.Tick(now).Flush {
				flushes++
			}
		}
		least, most := 0, 0
		if neighbour {
			least, most = 1, maxProbedVLANs+minutes*12
		}
		if flushes < least || flushes > most {
			t.Errorf("another switch %v: the bridge forgot %d times in %d minutes, want %d to %d", neighbour, flushes, minutes, least, most)
		}
	}
}

// TestLying_nobodyGetsTheAnswersToAnotherSwitch: peer 2 asks a host of ours whether it is still
// there, because somebody claims its address over there. Peer 1 wants the answer not to arrive, and
// uses the address of the other switch as the source of frames, in an announcement, and in its
// hello; also before the other has said its name.
func TestLying_nobodyGetsTheAnswersToAnotherSwitch(t *testing.T) {
	t.Parallel()
	const node = 0x1234_000042
	for name, steal := range map[string]func(s *Switch){
		"a frame": func(s *Switch) {
			if _, r := fromPeer(s, at(time.Second), 1, eth(Broadcast, switchMAC(node), typeIPv4)); r == drop.None && s.view.Load().port(2).name == node {
				t.Error("the frame passes")
			}
		},
		"an announcement": func(s *Switch) {
			b := append(appendControl(nil, controlAnnounce, announceEntryLen), 0, 0, 0, 0, 0, 0, 0, 0)
			switchMAC(node).Put(b[len(b)-6:])
			s.Control(at(time.Second), 1, b)
		},
		"the same name": func(s *Switch) { sayNode(t, s, time.Second, 1, node) },
		"a name with the same end": func(s *Switch) {
			sayNode(t, s, time.Second, 1, node|0xbad<<40)
		},
	} {
		for _, early := range []bool{false, true} {
			s := newSwitch(t, Config{MaxEntries: 256, Hub: true})
			addPeer(t, s, 1, PortConfig{Node: testNode(1)})
			addPeer(t, s, 2, PortConfig{Node: node})
			if early {
				steal(s)
			}
			sayNode(t, s, time.Second, 2, node)
			if !early {
				steal(s)
			}
			answer := arp(t, 2, switchMAC(node), hostMAC(5), "10.0.0.5", switchMAC(node), "0.0.0.0")
			v, r := fromDevice(s, at(2*time.Second), answer)
			if got := outPorts(v); r != drop.None || !slices.Equal(got, []PortID{2}) {
				t.Errorf("%s, early %v: the answer goes to %v, %v, want port 2", name, early, got, r)
			}
		}
	}
}

// TestLying_joinTestsTakeNoHostsAddress: a peer asks for a join test from the address of a host
// that we remember, that is known in another VLAN of a bridge which does not distinguish them, or
// that is assigned to another peer. Our frame from that address would lead its traffic to us.
func TestLying_joinTestsTakeNoHostsAddress(t *testing.T) {
	t.Parallel()
	host := hostMAC(7)
	test := func(s *Switch, now time.Duration, vid uint16) drop.Reason {
		b := binary.BigEndian.AppendUint16(appendControl(nil, controlJoinTest, joinTestLen), vid)
		b = append(b, 0, 0, 0, 0, 0, 0)
		host.Put(b[len(b)-6:])
		return s.Control(at(now), 1, b)
	}
	s := newSwitch(t, Config{MaxEntries: 256})
	addPeer(t, s, 1, PortConfig{VLANs: []uint16{0, 5}})
	addPeer(t, s, 2, PortConfig{VLANs: []uint16{0, 5}})
	if r := test(s, 0, 0); r != drop.None {
		t.Fatalf("an address that nobody has: %v", r)
	}
	s.SyncStations(start, []Station{{MAC: host}}, true)
	if r := test(s, time.Second, 5); r != drop.SourceForeign {
		t.Errorf("a host of the bridge, in another VLAN: %v", r)
	}
	s.RemoveStation(at(time.Second), 0, host, DepartureAged)
	late := time.Duration(0)
	for d := time.Second; d < 400*time.Second; d += time.Second {
		s.Tick(at(d))
		late = d
	}
	if _, known := portOf(s, 0, host); known {
		t.Fatal("the host has not aged out: the test shows nothing")
	}
	if r := test(s, late, 0); r != drop.SourceForeign {
		t.Errorf("a host that has long been silent: %v", r)
	}
	s = newSwitch(t, Config{MaxEntries: 256})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	s.Assign(start, Assignment{Set: []Assigned{{MAC: host, Port: 2}}})
	if r := test(s, time.Second, 0); r != drop.SourceForeign {
		t.Errorf("a host that a registry knows elsewhere: %v", r)
	}
}

// TestLying_othersAnnouncementsReachOurLAN: a peer announces invented addresses as fast as it may,
// and withdraws them. What another peer announces is still told to our LAN, and that its hosts have
// moved is still noticed.
func TestLying_othersAnnouncementsReachOurLAN(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{MaxEntries: 256})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	announcement := func(macs ...MAC) []byte {
		b := withdrawal(macs...)
		b[1] = controlAnnounce
		return b
	}
	now, next := start, 1000
	for range 500 {
		now = now.Add(20 * time.Millisecond)
		macs := make([]MAC, 12)
		for i := range macs {
			macs[i] = hostMAC(next)
			next++
		}
		s.Control(now, 1, announcement(macs...))
		s.Control(now, 1, withdrawal(macs...))
		s.Tick(now)
	}
	s.Control(now, 2, announcement(hostMAC(7)))
	told := false
	for _, frame := range s.Tick(now).ToDevice {
		told = told || MACFromBytes(frame[6:]) == hostMAC(7)
	}
	if !told {
		t.Error("what another peer announces is not told to our LAN")
	}
	s.Control(now, 2, withdrawal(hostMAC(7)))
	s.mu.Lock()
	_, noted := s.departed[entryKey(0, hostMAC(7))]
	s.mu.Unlock()
	if !noted {
		t.Error("that a host of another peer has gone is not noted")
	}
}

// TestLying_aQuerierForUsAlone is what a peer can do: it queries us as a multicast router does, and
// nobody else. What hosts behind another peer have joined is forgotten, because nobody asks them.
// Without snooping, multicast goes to all.
func TestLying_aQuerierForUsAlone(t *testing.T) {
	t.Parallel()
	for _, snooping := range []bool{true, false} {
		s := newSwitch(t, Config{MaxEntries: 256, NoSnooping: !snooping})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{})
		fromPeer(s, start, 2, igmp2(t, hostMAC(2), 0x16, testGroup))
		last := time.Duration(0)
		for d := time.Duration(0); d < 2*memberInterval*time.Second; d += time.Second {
			if d%(100*time.Second) == 0 {
				fromPeer(s, at(d), 1, igmpQuery(t))
			}
			s.Tick(at(d))
			last = d
		}
		ip := net.ParseIP(testGroup).To4()
		v, _ := fromDevice(s, at(last), eth(multicastMAC4(ip), hostMAC(9), typeIPv4))
		if got := slices.Contains(outPorts(v), 2); got == snooping {
			t.Errorf("snooping %v: the other peer gets the stream: %v", snooping, got)
		}
	}
}

package l2

import (
	"slices"
	"testing"
	"time"

	"tund/internal/drop"
)

// sayNode gives the peer at a port a node name, which determines the MAC of its switch.
func sayNode(t *testing.T, s *Switch, d time.Duration, id PortID, node uint64) drop.Reason {
	t.Helper()
	h := Hello{Version: 1, Ethernet: true, MTU: 1500, Node: node, Clock: second(at(d))}
	return s.Control(at(d), id, h.Append(nil))
}

// A pinned peer takes the MAC of another host for that of its switch. Nothing but the requests that
// switches send each other is accepted from that MAC.
func TestNode_switchMACIsNoWayAroundPinning(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{MACs: []MAC{hostMAC(1)}})
	addPeer(t, s, 2, PortConfig{})
	const victim = MAC(0x767464_abcdef)
	sayNode(t, s, time.Second, 1, 0xabcdef)
	now := at(time.Second)
	reply := arp(t, 2, hostMAC(5), hostMAC(77), "10.0.0.1", hostMAC(5), "10.0.0.5")
	victim.Put(reply[6:])
	solicit := neighborSolicit(t, hostMAC(77), "fe80::77", "fe80::9")
	victim.Put(solicit[6:])
	for why, frame := range map[string][]byte{
		"a broadcast":                  eth(Broadcast, victim, typeIPv4),
		"a frame to a host":            eth(hostMAC(5), victim, typeIPv4),
		"an ARP reply":                 reply,
		"an ARP request with a sender": arp(t, 1, hostMAC(5), victim, "10.0.0.1", 0, "10.0.0.5"),
		"a broadcast ARP probe":        arp(t, 1, Broadcast, victim, "0.0.0.0", 0, "10.0.0.5"),
		"a neighbour solicitation":     solicit,
	} {
		if v, r := fromPeer(s, now, 1, frame); r != drop.SourceForeign {
			t.Errorf("%s: %v, to the LAN %v", why, r, v.ToDevice)
		}
	}
	if _, r := fromPeer(s, now, 1, arp(t, 1, hostMAC(5), victim, "0.0.0.0", 0, "10.0.0.5")); r != drop.None {
		t.Errorf("a question: %v", r)
	}
	if id, ok := portOf(s, 0, victim); ok {
		t.Errorf("learned at port %d", id)
	}
}

// The requests of a switch are recognized by another, for IPv4 and IPv6.
func TestNode_questionsAreRecognized(t *testing.T) {
	t.Parallel()
	a, b := newSwitch(t, Config{}), newSwitch(t, Config{})
	b.node = 0x1234567
	b.mac = switchMAC(b.node)
	addPeer(t, a, 1, PortConfig{MACs: []MAC{hostMAC(1)}})
	sayNode(t, a, time.Second, 1, b.node)
	addPeer(t, b, 1, PortConfig{})
	for _, length := range []uint8{4, 16} {
		b.challenge(&challenge{key: entryKey(0, hostMAC(5)), port: 1, len: length, host: [16]byte{10, 0, 0, 5}})
		out := b.Tick(at(time.Second)).ToPeers
		i := slices.IndexFunc(out, func(m Message) bool { return PayloadKind(m.Payload) == KindFrame })
		if i < 0 {
			t.Fatal("no question")
		}
		_, frame, _ := ParseFrame(out[i].Payload)
		if _, r := fromPeer(a, at(time.Second), 1, frame); r != drop.None {
			t.Errorf("address of %d bytes: %v", length, r)
		}
	}
}

// A peer takes a node name whose MAC is that of another switch. Answers still go to the peer that
// used it first, however the later ones come, go and change; when the first has gone, they go to
// the next.
func TestNode_aTwinGetsNoAnswers(t *testing.T) {
	t.Parallel()
	const node = 0x5_000042
	answers := func(s *Switch) []PortID {
		v, _ := fromDevice(s, at(time.Second), eth(switchMAC(node), hostMAC(9), typeARP))
		return outPorts(v)
	}
	for i := range 32 {
		s := newSwitch(t, Config{Hub: true})
		for id := PortID(1); id <= 3; id++ {
			addPeer(t, s, id, PortConfig{})
		}
		d := time.Duration(i) * time.Millisecond
		sayNode(t, s, d, 2, node)
		sayNode(t, s, d, 1, node|0xbad<<40)
		sayNode(t, s, d, 3, node|0xbad<<41)
		for _, rebuild := range []bool{false, true} {
			if rebuild {
				s.mu.Lock()
				s.rebuild()
				s.mu.Unlock()
			}
			if got := answers(s); !slices.Equal(got, []PortID{2}) {
				t.Fatalf("answers go to %v, want port 2", got)
			}
		}
		s.SetPortUp(2, false, start)
		if got := answers(s); !slices.Equal(got, []PortID{1}) {
			t.Fatalf("the first is gone: answers go to %v, want port 1", got)
		}
	}
}

// A peer cannot make us process a hundred changes of its name per second.
func TestNode_renamesAreLimited(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	taken := 0
	for i := range 1000 {
		if sayNode(t, s, time.Duration(i)*10*time.Millisecond, 1, uint64(100+i)) == drop.None {
			taken++
		}
	}
	if taken > 10 {
		t.Errorf("%d of 1000 names taken in 10 s", taken)
	}
}

// A view in which one port after another was replaced equals one that is built from scratch.
func TestView_refreshIsLikeRebuild(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{Hub: true})
	for id := PortID(1); id <= 9; id++ {
		addPeer(t, s, id, PortConfig{VLANs: []uint16{0, uint16(id)}})
	}
	random := newRandom(3)
	for i := range 500 {
		id := PortID(random.Uint64()%9 + 1)
		switch random.Uint64() % 5 {
		case 0:
			s.SetPortUp(id, false, at(time.Duration(i)*time.Minute))
		case 1:
			s.SetPortUp(id, true, at(time.Duration(i)*time.Minute))
		case 2:
			sayNode(t, s, time.Duration(i)*time.Minute, id, random.Uint64()%4+1)
		case 3:
			s.mu.Lock()
			s.block(at(time.Duration(i)*time.Minute), block{port: id, vid: uint16(id), other: id})
			s.mu.Unlock()
		case 4:
			s.Tick(at(time.Duration(i) * time.Minute))
		}
		got := s.view.Load()
		s.mu.Lock()
		s.rebuild()
		s.mu.Unlock()
		want := s.view.Load()
		s.view.Store(got)
		if len(got.peers) != len(want.peers) || len(got.nodes) != len(want.nodes) || len(got.probers) != len(want.probers) {
			t.Fatalf("step %d: %d peers, %d nodes, %d probers; recreated %d, %d, %d", i,
				len(got.peers), len(got.nodes), len(got.probers), len(want.peers), len(want.nodes), len(want.probers))
		}
		for k, p := range want.peers {
			if g := got.peers[k]; g.id != p.id || g.mtu != p.mtu || g.node != p.node || (g.blocked == nil) != (p.blocked == nil) ||
				got.byID[p.id] != g {
				t.Fatalf("step %d: peer %d is %+v, recreated %+v", i, k, g, p)
			}
		}
		for mac, id := range want.nodes {
			if got.nodes[mac] != id {
				t.Fatalf("step %d: %v is at port %d, recreated %d", i, mac, got.nodes[mac], id)
			}
		}
		for node, ids := range want.probers {
			if g := slices.Sorted(slices.Values(got.probers[node])); !slices.Equal(g, slices.Sorted(slices.Values(ids))) {
				t.Fatalf("step %d: node %d at %v, recreated %v", i, node, g, ids)
			}
		}
	}
}

// A peer is given the id of a removed port. A part of a frame left over from the old peer must not
// become part of a frame of the new one.
func TestReassembler_portOfAnotherPeer(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 7, PortConfig{})
	r := NewReassembler(1522, s)
	first, second := cutFrame(t, make([]byte, 1500), 5, 1420)
	if _, reason := add(t, r, start, 7, first); reason != drop.None {
		t.Fatal(reason)
	}
	s.RemovePort(7)
	if f, reason := add(t, r, start, 7, second); f != nil || reason != drop.NotEthernetPeer {
		t.Errorf("no such port: %d bytes, %v", len(f), reason)
	}
	addPeer(t, s, 7, PortConfig{})
	if f, reason := add(t, r, start, 7, second); f != nil || reason != drop.None {
		t.Errorf("the half of another peer: %d bytes, %v", len(f), reason)
	}
	s.RemovePort(7)
	if r.TakeLost(start); len(r.ports) != 0 {
		t.Error("what was kept for a port that is gone is still kept")
	}
}

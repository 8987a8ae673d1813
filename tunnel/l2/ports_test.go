package l2

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"tund/internal/drop"
)

func TestSetPorts_touchesOnlyWhatChanges(t *testing.T) {
	t.Parallel()
	s, err := New(Config{}, newRandom(1))
	if err != nil {
		t.Fatal(err)
	}
	pinned := PortConfig{Name: "a", Ethernet: true, MACs: []MAC{2}, VLANs: []uint16{7}}
	if err := s.SetPorts(map[PortID]PortConfig{1: pinned, 2: {Name: "b", Ethernet: true}}, nil); err != nil {
		t.Fatal(err)
	}
	s.SetPortUp(1, true, start)
	s.Tick(start)
	before := s.view.Load()
	same := map[PortID]PortConfig{1: pinned.clone(), 2: {Name: "b", Ethernet: true, MACs: []MAC{}}}
	if err := s.SetPorts(same, []PortID{9}); err != nil {
		t.Fatal(err)
	}
	if s.view.Load() != before {
		t.Error("an unchanged configuration makes a new view")
	}
	if told := s.Tick(start).ToPeers; len(told) != 0 {
		t.Errorf("an unchanged configuration is told to the peer: %v", told)
	}
}

func TestSetPorts_allOrNothing(t *testing.T) {
	t.Parallel()
	s, err := New(Config{}, newRandom(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPorts(map[PortID]PortConfig{1: {MACs: []MAC{2}}, 2: {Name: "b"}}, nil); err != nil {
		t.Fatal(err)
	}
	changed := PortConfig{Name: "changed"}
	for what, set := range map[string]map[PortID]PortConfig{
		"a MAC of another port":  {2: changed, 3: {MACs: []MAC{2}}},
		"one MAC for two ports":  {2: changed, 3: {MACs: []MAC{5}}, 4: {MACs: []MAC{5}}},
		"the device's own port":  {2: changed, LocalPort: {}},
		"an id that is too high": {2: changed, MaxPortID + 1: {}},
	} {
		if s.SetPorts(set, nil) == nil {
			t.Errorf("%s is accepted", what)
		}
		if c, _ := s.Port(2); c.Name != "b" {
			t.Errorf("%s: refused, and port 2 is changed", what)
		}
	}
	if err := s.SetPorts(map[PortID]PortConfig{3: {MACs: []MAC{2}}}, []PortID{1}); err != nil {
		t.Errorf("a MAC may not pass from a port that leaves: %v", err)
	}
	if _, ok := s.Port(1); ok {
		t.Error("a port that was to leave is still there")
	}
}

// TestSwitch_isolatedPeersAreKeptApart: peers 1 and 2 are isolated, peer 3 is not.
func TestSwitch_isolatedPeersAreKeptApart(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{Hub: true})
	addPeer(t, s, 1, PortConfig{Isolated: true})
	addPeer(t, s, 3, PortConfig{})
	fromPeer(s, start, 1, eth(Broadcast, hostMAC(1), typeIPv4))
	fromPeer(s, start, 3, eth(Broadcast, hostMAC(3), typeIPv4))
	addPeer(t, s, 2, PortConfig{Isolated: true})
	s.announceAll(2)
	actions := s.Tick(start)
	told := func(n int) bool {
		mac := hw(hostMAC(n))
		return slices.ContainsFunc(actions.ToPeers, func(m Message) bool { return m.Port == 2 && bytes.Contains(m.Payload, mac) })
	}
	if told(1) || !told(3) {
		t.Errorf("peer 2 is told of the host of 1: %v, of that of 3: %v", told(1), told(3))
	}
	fromPeer(s, start, 2, eth(Broadcast, hostMAC(2), typeIPv4))
	for _, c := range []struct {
		from PortID
		to   []PortID
	}{{1, []PortID{3}}, {2, []PortID{3}}, {3, []PortID{1, 2}}} {
		for _, dst := range []MAC{Broadcast, 0x01005e010203, hostMAC(77)} {
			v, r := fromPeer(s, start, c.from, eth(dst, hostMAC(int(c.from)), typeIPv4))
			if got := outPorts(v); r != drop.None || !v.ToDevice || !slices.Equal(got, c.to) {
				t.Errorf("from %d to %v: %v %v, to device %v; want %v", c.from, dst, got, r, v.ToDevice, c.to)
			}
		}
		for _, to := range []PortID{1, 2, 3} {
			v, r := fromPeer(s, start, c.from, eth(hostMAC(int(to)), hostMAC(int(c.from)), typeIPv4))
			want := slices.Contains(c.to, to)
			if (r == drop.None) != want || slices.Equal(outPorts(v), []PortID{to}) != want {
				t.Errorf("from %d to the host of %d: %v %v", c.from, to, v.Out, r)
			}
			if c.from+to == 3 && r != drop.Isolated {
				t.Errorf("from %d to %d: %v, want the reason %v", c.from, to, r, drop.Isolated)
			}
		}
	}
	if v, r := fromDevice(s, start, eth(Broadcast, hostMAC(9), typeIPv4)); r != drop.None || len(v.Out) != 3 {
		t.Errorf("from the TAP: %v %v", v.Out, r)
	}
}

// TestSwitch_learningOff: learned entries are removed, pinned ones stay, and everything else is
// flooded.
func TestSwitch_learningOff(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{NeighborSuppression: true})
	addPeer(t, s, 1, PortConfig{MACs: []MAC{hostMAC(1)}})
	addPeer(t, s, 2, PortConfig{})
	addPeer(t, s, 3, PortConfig{})
	fromPeer(s, start, 2, arp(t, 2, Broadcast, hostMAC(2), "10.0.0.2", Broadcast, "10.0.0.2"))
	if err := s.Pin(start, 0, hostMAC(8), 3); err != nil {
		t.Fatal(err)
	}
	if err := s.SetConfig(Config{NeighborSuppression: true, NoLearning: true}); err != nil {
		t.Fatal(err)
	}
	fromPeer(s, start, 2, arp(t, 2, Broadcast, hostMAC(2), "10.0.0.2", Broadcast, "10.0.0.2"))
	fromDevice(s, start, eth(Broadcast, hostMAC(9), typeIPv4))
	for _, c := range []struct {
		name string
		dst  MAC
		to   []PortID
	}{
		{"pinned by the configuration", hostMAC(1), []PortID{1}},
		{"pinned by hand", hostMAC(8), []PortID{3}},
		{"seen, and not learned", hostMAC(2), []PortID{1, 2, 3}},
		{"never seen", hostMAC(77), []PortID{1, 2, 3}},
	} {
		if v, r := fromDevice(s, start, eth(c.dst, hostMAC(9), typeIPv4)); r != drop.None || !slices.Equal(outPorts(v), c.to) {
			t.Errorf("%s: %v %v, want %v", c.name, v.Out, r, c.to)
		}
	}
	if v, r := fromDevice(s, start, arp(t, 1, Broadcast, hostMAC(9), "10.0.0.9", 0, "10.0.0.2")); r != drop.None || v.Reply != nil {
		t.Errorf("a question was answered: %v %x", r, v.Reply)
	}
	if v, r := fromPeer(s, start, 1, eth(hostMAC(9), hostMAC(1), typeIPv4)); r != drop.None || !v.ToDevice {
		t.Errorf("to a host of the LAN: %v", r)
	}
	if _, r := fromPeer(s, start, 2, eth(Broadcast, hostMAC(9), typeIPv4)); r != drop.None {
		t.Errorf("an address of the LAN at a peer: %v", r)
	}
	for _, mac := range []MAC{hostMAC(1), hostMAC(8)} {
		if _, r := fromPeer(s, start, 2, eth(Broadcast, mac, typeIPv4)); r != drop.SourceForeign {
			t.Errorf("the pinned address %v at another peer: %v", mac, r)
		}
	}
	if n := len(s.Entries(start)); n != 2 {
		t.Errorf("%d entries, want the two that are pinned", n)
	}
}

// A change of some ports makes the same view as building it from scratch.
func TestSetPorts_viewIsThatOfARebuild(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		set := make(map[PortID]PortConfig)
		for range 1 + r.IntN(3) {
			set[PortID(1+r.IntN(9))] = PortConfig{Name: "x", Ethernet: r.IntN(4) > 0, PVID: uint16(r.IntN(5))}
		}
		if err := s.SetPorts(set, []PortID{PortID(1 + r.IntN(9))}); err != nil {
			t.Fatal(err)
		}
		s.announceAll(PortID(1 + r.IntN(9)))
		got := s.view.Load()
		s.mu.Lock()
		s.rebuild()
		s.mu.Unlock()
		want := s.view.Load()
		for id := range max(len(got.byID), len(want.byID)) {
			if a, b := got.port(PortID(id)), want.port(PortID(id)); !reflect.DeepEqual(a, b) {
				t.Fatalf("port %d is %+v, and %+v after a rebuild", id, a, b)
			}
		}
		if len(got.peers) != len(want.peers) || !maps.Equal(got.nodes, want.nodes) || len(got.pinned) != len(want.pinned) {
			t.Fatalf("%d peers and %v, after a rebuild %d and %v", len(got.peers), got.nodes, len(want.peers), want.nodes)
		}
	}
}

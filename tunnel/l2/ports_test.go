package l2

import "testing"

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

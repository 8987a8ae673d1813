package l2

import "testing"

// A probe that a host has moved to another VLAN shows no loop there.
func TestProbe_peersIsBoundToItsVLAN(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why        string
		cfg        PortConfig
		pvid       uint16 // of the peer
		named, vid int
		blocks     bool
	}{
		{"its own", PortConfig{VLANs: []uint16{10, 20}}, noVLAN, 10, 10, true},
		{"moved", PortConfig{VLANs: []uint16{10, 20}}, noVLAN, 10, 20, false},
		{"untagged moved into a VLAN", PortConfig{VLANs: []uint16{0, 20}}, 0, 0, 20, false},
		{"moved out of a VLAN", PortConfig{VLANs: []uint16{0, 20}}, 0, 20, 0, false},
		{"an access port here", PortConfig{PVID: 20}, 0, 0, 20, true},
		{"an access port there", PortConfig{}, 30, 30, 0, true},
		{"an access port there, another VLAN", PortConfig{}, 30, 31, 0, false},
		{"untagged refused there", PortConfig{}, noVLAN, 0, 0, false},
		{"not carried", PortConfig{VLANs: []uint16{20}}, noVLAN, 10, 10, false},
	} {
		for _, way := range []PortID{LocalPort, 2} {
			s := newSwitch(t, Config{})
			p := newProber(1)
			p.hello.NamesVLAN, p.hello.PVID = true, c.pvid
			p.joins(t, s, 1, true)
			c.cfg.Ethernet = true
			if err := s.SetPort(1, c.cfg); err != nil {
				t.Fatal(err)
			}
			var got bool
			if way == LocalPort {
				fromDevice(s, start, p.frameIn(start, uint32(c.named), uint16(c.vid)))
				got = len(s.blocks) > 0
			} else {
				addPeer(t, s, 2, PortConfig{VLANs: []uint16{0, 10, 20}})
				fromPeer(s, start, 2, p.frameIn(start, uint32(c.named), uint16(c.vid)))
				got = len(s.pairs) > 0
			}
			if got != c.blocks {
				t.Errorf("%s, seen at port %d: blocked %v, want %v", c.why, way, got, c.blocks)
			}
		}
	}
}

// Our own probe counts only in its own VLAN.
func TestProbe_oursIsBoundToItsVLAN(t *testing.T) {
	t.Parallel()
	for _, vid := range []uint16{10, 20} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{VLANs: []uint16{10, 20}})
		p := &prober{Switch: s}
		fromPeer(s, start, 1, p.frameIn(start, 10, vid))
		if got := len(s.blocks) > 0; got != (vid == 10) {
			t.Errorf("a probe of VLAN 10 in VLAN %d: blocked %v", vid, got)
		}
	}
}

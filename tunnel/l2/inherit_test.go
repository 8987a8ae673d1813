package l2

import (
	"slices"
	"testing"
	"time"
)

// TestGroups_theOtherGatewayInherits: peers 1 and 2 serve one LAN, which reported a group through
// the one in use. When the other takes over, and when the first one is back, the stream goes there,
// in this VLAN only, though nobody has reported the group again.
func TestGroups_theOtherGatewayInherits(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, s, id, PortConfig{VLANs: []uint16{0, 10}})
	}
	query := func(d time.Duration, vlans ...uint16) {
		q := appendQuery(nil, hostMAC(9), 0, false, false)
		if len(vlans) > 0 {
			q = appendQuery(nil, hostMAC(9), vlans[0], true, false)
		}
		fromDevice(s, at(d), q)
	}
	query(0)
	query(0, 10)
	fromPeer(s, start, 1, igmp2(t, hostMAC(1), 0x16, group1))
	receivers := func(what string, d time.Duration, want ...PortID) {
		t.Helper()
		v, _ := fromDevice(s, at(d), stream(group1MAC))
		if got := outPorts(v); !slices.Equal(got, want) {
			t.Errorf("%s: the stream goes to %v, want %v", what, got, want)
		}
		if v, _ := fromDevice(s, at(d), eth(group1MAC, hostMAC(50), 0x1234, 10)); len(v.Out) > 0 {
			t.Errorf("%s: in another VLAN it goes to %v", what, outPorts(v))
		}
	}
	locked := func(f func()) {
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	}
	const second = time.Second
	locked(func() { s.block(at(20*second), block{port: 2, other: 1, cause: 1}) })
	receivers("the first gateway is in use", 20*second, 1)
	s.SetPortUp(1, false, at(30*second))
	receivers("the other has taken over", 30*second, 2)
	receivers("before the next query", 120*second, 2)

	s.SetPortUp(1, true, at(270*second))
	sayNode(t, s, 270*second, 1, testNode(1))
	query(271 * second)
	query(271*second, 10)
	fromPeer(s, at(272*second), 2, igmp2(t, hostMAC(1), 0x16, group1))
	receivers("the LAN reports through the other", 290*second, 2)
	locked(func() { s.block(at(291*second), block{port: 2, other: 1, cause: 1}) })
	receivers("the first gateway is back", 291*second, 1)
}

// TestGroups_aGatewayThatTakesOverPrunesNothing: while it stood by, a peer's reports did not reach
// it.
func TestGroups_aGatewayThatTakesOverPrunesNothing(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	fromDevice(s, start, appendQuery(nil, hostMAC(9), 0, false, false))
	receivers := func(what string, d time.Duration, want ...PortID) {
		t.Helper()
		v, _ := fromDevice(s, at(d), stream(group1MAC))
		if got := outPorts(v); !slices.Equal(got, want) {
			t.Errorf("%s: the stream goes to %v, want %v", what, got, want)
		}
	}
	const second = time.Second
	s.Control(at(12*second), 1, cutMessage(0, cutStandby))
	receivers("standing by", 12*second)
	s.Control(at(20*second), 1, cutMessage(0, cutOpen))
	receivers("taking over", 20*second, 1)
	receivers("the peer's hosts have been asked", 20*second+renewInterval*second)
}

package l2

import (
	"slices"
	"testing"
	"time"
)

// TestGroups_allMulticastGoesToTheQuerier: a bridge that is the querier keeps the reports of its
// own hosts to itself, whether or not it has an address; a switch like us does not, also beyond a
// hub.
func TestGroups_allMulticastGoesToTheQuerier(t *testing.T) {
	t.Parallel()
	bridge4 := igmp(t, hostMAC(3), "0.0.0.0", "224.0.0.1", []byte{0x11, 100, 0, 0, 0, 0, 0, 0})
	bridge6 := mldQuery(t, "fe80::66")
	const group4, group6 = MAC(0x01005e_010203), MAC(0x3333_12345678)
	for _, c := range []struct {
		name  string
		query []byte
		group MAC
		all   bool
	}{
		{"a bridge without an address", bridge4, group4, true},
		{"a bridge, MLD", bridge6, group6, true},
		{"another switch", appendQuery(nil, hostMAC(4), 0, false, false), group4, false},
		{"another switch, MLD", appendQuery(nil, hostMAC(4), 0, false, true), group6, false},
	} {
		for _, port := range []PortID{LocalPort, 2} {
			s := newSwitch(t, Config{})
			addPeer(t, s, 1, PortConfig{})
			addPeer(t, s, 2, PortConfig{})
			got := false
			if port == LocalPort {
				fromDevice(s, start, c.query)
				v, _ := fromPeer(s, at(12*time.Second), 1, eth(c.group, hostMAC(50), 0x1234))
				got = v.ToDevice
			} else {
				fromPeer(s, start, port, c.query)
				v, _ := fromDevice(s, at(12*time.Second), stream(c.group))
				got = len(v.Out) > 0
			}
			if got != c.all {
				t.Errorf("%s is the querier at port %d: it gets a stream that nobody has asked for: %v, want %v", c.name, port, got, c.all)
			}
		}
	}
}

// TestGroups_returnWithThePort: a session that ends and comes back changes nothing for the hosts of
// the peer, so they report their groups only when the querier asks next, 125 s later.
func TestGroups_returnWithThePort(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	fromPeer(s, start, 2, igmp(t, hostMAC(3), "0.0.0.0", "224.0.0.1", []byte{0x11, 1, 0, 0, 0, 0, 0, 0}))
	fromPeer(s, start, 1, igmp2(t, hostMAC(1), 0x16, group1))
	receivers := func(what string, d time.Duration, want ...PortID) {
		t.Helper()
		s.Tick(at(d))
		v, _ := fromDevice(s, at(d), stream(group1MAC))
		if got := outPorts(v); !slices.Equal(got, want) {
			t.Errorf("%s: the stream goes to %v, want %v", what, got, want)
		}
	}
	const second = time.Second
	for _, id := range []PortID{1, 2} {
		s.SetPortUp(id, false, at(120*second))
	}
	receivers("without sessions", 121*second)
	for _, id := range []PortID{1, 2} {
		s.SetPortUp(id, true, at(180*second))
		sayNode(t, s, 180*second, id, testNode(id))
	}
	receivers("with sessions again", 181*second, 1, 2)
	receivers("before the next query", 250*second, 1, 2)
	// The querier asks, and only its own site answers.
	fromPeer(s, at(250*second), 2, igmp(t, hostMAC(3), "0.0.0.0", "224.0.0.1", []byte{0x11, 1, 0, 0, 0, 0, 0, 0}))
	receivers("nobody reports any more", 180*second+renewInterval*second+second, 2)
	if err := s.SetPorts(nil, []PortID{2}); err != nil {
		t.Fatal(err)
	}
	if n := len(s.groups.domain(0, false).routers); n != 0 {
		t.Errorf("%d routers at a port that was removed", n)
	}
}

// TestGroups_timeToAnswer: how long hosts may take to answer a query, in each of its encodings.
func TestGroups_timeToAnswer(t *testing.T) {
	t.Parallel()
	v3 := func(code byte) []byte { return []byte{0x11, code, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0} }
	for _, c := range []struct {
		name string
		got  int
		want int
	}{
		{"IGMPv1", igmpResponse([]byte{0x11, 0, 0, 0, 0, 0, 0, 0}), 10},
		{"IGMPv2, 0.1 s", igmpResponse([]byte{0x11, 1, 0, 0, 0, 0, 0, 0}), 1},
		{"IGMPv2, 25.5 s", igmpResponse([]byte{0x11, 255, 0, 0, 0, 0, 0, 0}), 26},
		{"IGMPv3, 10 s", igmpResponse(v3(100)), 10},
		{"IGMPv3, 12.8 s", igmpResponse(v3(0x80)), 13},
		{"IGMPv3, 52 minutes", igmpResponse(v3(0xff)), maxResponse},
		{"MLDv1, 10 s", mldResponse(append([]byte{icmp6MLDQuery, 0, 0, 0, 0x27, 0x10}, make([]byte, 18)...)), 10},
		{"MLDv1, 65 s", mldResponse(append([]byte{icmp6MLDQuery, 0, 0, 0, 0xff, 0xff}, make([]byte, 18)...)), maxResponse},
		{"MLDv2, 1 ms", mldResponse(append([]byte{icmp6MLDQuery, 0, 0, 0, 0, 1}, make([]byte, 22)...)), 1},
		{"MLDv2, 32.8 s", mldResponse(append([]byte{icmp6MLDQuery, 0, 0, 0, 0x80, 0}, make([]byte, 22)...)), maxResponse},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d s, want %d", c.name, c.got, c.want)
		}
	}
}

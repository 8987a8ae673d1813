package l2

import (
	"encoding/binary"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// newHub returns a hub with peers at ports 1 to n, and the hello that it sent to port 1.
func newHub(t *testing.T, n PortID) (*Switch, Hello) {
	t.Helper()
	s := newSwitch(t, Config{Hub: true})
	if err := s.SetPort(1, PortConfig{Name: "one", Ethernet: true}); err != nil {
		t.Fatal(err)
	}
	s.SetPortUp(1, true, start)
	said := hellosTo(s, start, 1)
	if len(said) == 0 {
		t.Fatal("the hub says no hello")
	}
	for id := PortID(1); id <= n; id++ {
		addPeer(t, s, id, PortConfig{})
	}
	return s, said[0]
}

// probesTo returns the probes that the hub sends at now, by the port through which they are sent.
func probesTo(s *Switch, now boottime.Time) map[PortID][]byte {
	out := map[PortID][]byte{}
	for _, m := range s.Tick(now).ToPeers {
		if kind, body, ok := parseControl(m.Payload); ok && kind == controlProbe {
			out[m.Port] = body
		}
	}
	return out
}

func hubProbeFrom(t *testing.T, s *Switch, now boottime.Time, id PortID, body []byte) {
	t.Helper()
	if r := s.Control(now, id, append(appendControl(nil, controlProbe, len(body)), body...)); r != drop.None {
		t.Fatalf("probe from port %d: %v", id, r)
	}
}

// mustBlock fails the test unless exactly the given ports are blocked.
func mustBlock(t *testing.T, s *Switch, n PortID, want ...PortID) {
	t.Helper()
	for id := PortID(1); id <= n; id++ {
		blocked := s.view.Load().port(id).blocked != nil
		wanted := false
		for _, w := range want {
			wanted = wanted || w == id
		}
		if blocked != wanted {
			t.Errorf("port %d blocked: %v, want %v", id, blocked, wanted)
		}
	}
}

// A peer forges a probe of the hub from everything that the hub disclosed to it, and names the
// ports of other peers.
func TestHubProbe_aPeerCannotForgeOne(t *testing.T) {
	t.Parallel()
	s, said := newHub(t, 4)
	now := at(time.Second)
	for id := PortID(0); id <= 5; id++ {
		b := binary.BigEndian.AppendUint64(nil, said.Node)
		b = binary.BigEndian.AppendUint32(b, second(now))
		b = binary.BigEndian.AppendUint32(b, uint32(id))
		sum := authenticate(&said.Secret, b)
		hubProbeFrom(t, s, now, 1, append(append(b, sum[:]...), 0))
	}
	mustBlock(t, s, 4)
}

// A peer sends back genuine probes: its own and, through an accomplice, that of another peer. Only
// its own port is blocked.
func TestHubProbe_whoBringsItIsBlocked(t *testing.T) {
	t.Parallel()
	for _, left := range []PortID{2, 4} {
		s, _ := newHub(t, 4)
		now := at(ProbeInterval)
		probes := probesTo(s, now)
		hubProbeFrom(t, s, now, 2, probes[left])
		mustBlock(t, s, 4, 2)
	}
}

// A probe cannot be changed to name another port, and is invalid once it is old or its origin has
// restarted.
func TestHubProbe_changedOldOrOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	s, _ := newHub(t, 4)
	now := at(ProbeInterval)
	probe := probesTo(s, now)[2]
	changed := append([]byte(nil), probe...)
	binary.BigEndian.PutUint32(changed[12:], 4)
	hubProbeFrom(t, s, now, 2, changed)
	mustBlock(t, s, 4)
	late := now.Add(holdTime + 2*time.Second)
	hubProbeFrom(t, s, late, 2, probe)
	mustBlock(t, s, 4)

	again, err := New(Config{Hub: true}, newRandom(2))
	if err != nil {
		t.Fatal(err)
	}
	again.node = s.node
	addPeer(t, again, 1, PortConfig{})
	addPeer(t, again, 2, PortConfig{})
	hubProbeFrom(t, again, now, 2, probe)
	mustBlock(t, again, 2)
}

// A ring is detected in both directions and cut once; the block lasts as long as either direction
// shows the ring.
func TestHubProbe_aRingIsCutOnce(t *testing.T) {
	t.Parallel()
	s, _ := newHub(t, 4)
	for i := range 20 {
		now := at(time.Duration(i+1) * ProbeInterval)
		probes := probesTo(s, now)
		if i < 3 {
			hubProbeFrom(t, s, now, 3, probes[2])
		}
		hubProbeFrom(t, s, now, 2, probes[3])
		mustBlock(t, s, 4, 3)
	}
}

package l2

import (
	"testing"
	"time"

	"tund/internal/drop"
)

// talk is a broadcast from which no address of the host can be learned.
func talk(src MAC, tags ...uint16) []byte { return eth(Broadcast, src, 0x88b6, tags...) }

// claimed has a peer use a MAC until the bridge is asked about it or the claim is decided, and
// returns what was asked and when.
func claimed(s *Switch, from PortID, frame []byte, d time.Duration) (asked []Station, end time.Duration) {
	for end = d; end < d+3*time.Second; end += 50 * ms {
		fromPeer(s, at(end), from, frame)
		if a := s.Tick(at(end)); len(a.Ask) > 0 {
			return a.Ask, end
		}
	}
	return nil, end
}

// TestStation_aHostThatTheTAPNeverHearsCannotBeRobbed: only the bridge hears the host, and its
// address is unknown.
func TestStation_aHostThatTheTAPNeverHearsCannotBeRobbed(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{AgeingTime: 10 * time.Second})
	addPeer(t, s, 1, PortConfig{Name: "mallory"})
	victim := hostMAC(1)
	s.SyncStations(start, []Station{{MAC: victim}}, true)
	for d := time.Duration(0); d < time.Minute; d += 5 * time.Second {
		s.Tick(at(d))
	}
	if id, ok := portOf(s, 0, victim); !ok || id != LocalPort {
		t.Fatalf("after a minute of silence at the TAP the host is at port %d, %v", id, ok)
	}
	asked, d := claimed(s, 1, talk(victim), time.Minute)
	if len(asked) != 1 || asked[0] != (Station{MAC: victim}) {
		t.Fatalf("the bridge was asked for %v", asked)
	}
	s.StationHeard(at(d), 0, victim, 20*ms, true)
	if asked, d = claimed(s, 1, talk(victim), d); len(asked) != 1 || d > time.Minute+silentWait+50*ms {
		t.Fatalf("the bridge was asked again for %v after %v", asked, d-time.Minute)
	}
	s.StationHeard(at(d), 0, victim, 20*ms, true)
	spoof := false
	for _, e := range s.Tick(at(d)).Events {
		spoof = spoof || e.Kind == EventSpoof && e.MAC == victim
	}
	if !spoof {
		t.Error("the failed claim is not reported")
	}
	for ; d < 2*time.Minute; d += 50 * ms {
		if _, r := fromPeer(s, at(d), 1, talk(victim)); r != drop.SourceForeign {
			t.Fatalf("after %v: %v", d, r)
		}
		for _, st := range s.Tick(at(d)).Ask {
			s.StationHeard(at(d), st.VLAN, st.MAC, 20*ms, true)
		}
	}
}

// TestStation_aVMThatLeftIsFoundElsewhere: the bridge still has the entry of a VM that has moved,
// as it has when the VM is behind a further switch.
func TestStation_aVMThatLeftIsFoundElsewhere(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "new"})
		vm := hostMAC(1)
		s.SyncStations(start, []Station{{MAC: vm}}, true)
		asked, d := claimed(s, 1, talk(vm), time.Minute)
		if len(asked) != 1 || d > time.Minute+silentWait+50*ms {
			t.Fatalf("the bridge was asked for %v after %v", asked, d-time.Minute)
		}
		s.StationHeard(at(d), 0, vm, 30*time.Second, known)
		if !known {
			// The bridge does not know how long the host has been silent: it is asked again.
			asked, d = claimed(s, 1, talk(vm), d)
			if len(asked) != 1 || d < time.Minute+silentWait || d > time.Minute+silentWait+50*ms {
				t.Fatalf("the bridge was asked again for %v after %v", asked, d-time.Minute)
			}
			s.StationHeard(at(d), 0, vm, 0, false)
		}
		s.Tick(at(d))
		if id, _ := portOf(s, 0, vm); id != 1 {
			t.Errorf("the VM is at port %d", id)
		}
	}
	// The answer never comes.
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "new"})
	s.SyncStations(start, []Station{{MAC: hostMAC(1)}}, true)
	claimed(s, 1, talk(hostMAC(1)), time.Minute)
	s.Tick(at(time.Minute + silentWait + checkWait))
	if id, _ := portOf(s, 0, hostMAC(1)); id != 1 {
		t.Errorf("without an answer the VM is at port %d", id)
	}
}

// TestStation_aHostThatIsSilentMovesWithItsFirstFrame: the bridge has not heard the host for long,
// and no address of it is known. Its first frame from elsewhere is late by no more than the
// question to the bridge takes, and is not lost.
func TestStation_aHostThatIsSilentMovesWithItsFirstFrame(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "new"})
	host, now := hostMAC(1), at(time.Minute)
	s.SyncStations(start, []Station{{MAC: host}}, true)
	if _, r := fromPeer(s, now, 1, talk(host)); r != drop.SourceForeign {
		t.Fatalf("before the bridge was asked: %v", r)
	}
	if a := s.Tick(now); len(a.Ask) != 1 || a.Ask[0].MAC != host {
		t.Fatalf("the bridge was asked for %v", a.Ask)
	}
	now = now.Add(ms)
	s.StationHeard(now, 0, host, 30*time.Second, true)
	if a := s.Tick(now); findFrame(a.ToDevice, 0x88b6) == nil {
		t.Error("the frame was not delivered")
	}
	if id, _ := portOf(s, 0, host); id != 1 {
		t.Errorf("the host is at port %d", id)
	}
}

// TestStation_silenceCountsFromTheLastFrame: the bridge has heard the host a moment ago. It keeps
// its MAC if it says anything until two seconds of silence are over, and no longer.
func TestStation_silenceCountsFromTheLastFrame(t *testing.T) {
	t.Parallel()
	for _, alive := range []bool{true, false} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "new"})
		host := hostMAC(1)
		s.SyncStations(start, []Station{{MAC: host}}, true)
		heard := time.Minute - 1500*ms
		asked, moved := 0, time.Duration(0)
		for d := time.Minute; d < time.Minute+claimBackoff && moved == 0; d += 10 * ms {
			if alive && d == time.Minute+claimGrace+50*ms {
				heard = d
			}
			fromPeer(s, at(d), 1, talk(host))
			for range s.Tick(at(d)).Ask {
				asked++
				s.StationHeard(at(d), 0, host, d-heard, true)
			}
			s.Tick(at(d))
			if id, _ := portOf(s, 0, host); id == 1 {
				moved = d - time.Minute
			}
		}
		switch {
		case alive && moved != 0:
			t.Errorf("a host that speaks lost its MAC after %v", moved)
		case !alive && (moved != 500*ms || asked != 2):
			t.Errorf("a silent host moved after %v, and the bridge was asked %d times", moved, asked)
		}
	}
}

func TestStation_fixedOnesStay(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "mallory"})
	own := hostMAC(1)
	s.SyncStations(start, []Station{{MAC: own, Fixed: true}}, true)
	if asked, _ := claimed(s, 1, talk(own), time.Minute); asked != nil {
		t.Errorf("a claim to a fixed station was considered: %v", asked)
	}
	if id, _ := portOf(s, 0, own); id != LocalPort {
		t.Errorf("the fixed station is at port %d", id)
	}
	s.RemoveStation(at(2*time.Minute), 0, own, DepartureRemoved)
	if _, r := fromPeer(s, at(2*time.Minute), 1, talk(own)); r != drop.None {
		t.Errorf("the MAC was removed from the bridge, and a peer that uses it is refused: %v", r)
	}
}

// TestStation_departures: what the bridge says about the end of an entry decides whether the MAC
// still has to be claimed.
func TestStation_departures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		why  Departure
		want drop.Reason
	}{
		{"moved to the TAP", DepartureMoved, drop.SourceForeign},
		{"aged out", DepartureAged, drop.SourceForeign},
		{"its port is gone", DepartureRemoved, drop.None},
	} {
		s := newSwitch(t, Config{AgeingTime: 10 * time.Second})
		addPeer(t, s, 1, PortConfig{Name: "other"})
		host := hostMAC(1)
		fromDevice(s, start, talk(host))
		s.AddStations(start, []Station{{MAC: host}})
		s.RemoveStation(at(time.Minute), 0, host, c.why)
		if _, r := fromPeer(s, at(time.Minute), 1, talk(host)); r != c.want {
			t.Errorf("%s: a peer that uses the MAC: %v, want %v", c.name, r, c.want)
		}
	}
}

// TestStation_movesHome: a host appears at the bridge while it is known behind a peer. A list read
// from the bridge does not win over frames that came later.
func TestStation_movesHome(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "old"})
	host := hostMAC(1)
	fromPeer(s, at(10*time.Second), 1, talk(host))
	s.SyncStations(at(20*time.Second), []Station{{MAC: host, Idle: 15 * time.Second}}, true)
	if id, _ := portOf(s, 0, host); id != 1 {
		t.Fatalf("an old entry of the bridge took the host from the peer: port %d", id)
	}
	s.AddStations(at(30*time.Second), []Station{{MAC: host}})
	if id, _ := portOf(s, 0, host); id != LocalPort {
		t.Fatalf("the bridge has just heard the host, and it is at port %d", id)
	}
}

// TestStation_aLANWithTwoGateways: hosts of other sites reach a port of the bridge through the
// other gateway. They are not taken for local ones.
func TestStation_aLANWithTwoGateways(t *testing.T) {
	t.Parallel()
	for _, role := range []byte{cutStandby, cutActive} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "remote"})
		remote, own := hostMAC(1), hostMAC(2)
		list := []Station{{MAC: remote}, {MAC: own, Fixed: true}}
		s.SyncStations(start, list, true)
		fromDevice(s, start, newProber(99).frame(start)) // of the other gateway
		cut := func(d time.Duration, state byte) {
			s.Control(at(d), 1, append(appendControl(nil, controlCut, cutLen), 0, 0, state))
			s.Tick(at(d))
		}
		cut(time.Second, role)
		s.AddStations(at(2*time.Second), list)
		if _, r := fromPeer(s, at(2*time.Second), 1, talk(remote)); r != drop.None {
			t.Errorf("role %d: a host of the peer: %v", role, r)
		}
		s.AddStations(at(3*time.Second), list)
		if id, _ := portOf(s, 0, remote); id != 1 {
			t.Errorf("role %d: the host of the peer is at port %d", role, id)
		}
		if id, ok := portOf(s, 0, own); !ok || id != LocalPort {
			t.Errorf("role %d: a fixed station is at port %d, %v", role, id, ok)
		}
		cut(4*time.Second, cutOpen)
		s.AddStations(at(5*time.Second), list)
		if id, _ := portOf(s, 0, remote); id != LocalPort {
			t.Errorf("role %d: after the other gateway has gone, a station is at port %d", role, id)
		}
	}
}

func TestStation_listsReplaceEachOther(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{AgeingTime: 10 * time.Second})
	a, b := hostMAC(1), hostMAC(2)
	s.SyncStations(start, []Station{{MAC: a}, {MAC: b}}, true)
	s.SyncStations(at(time.Minute), []Station{{MAC: b, Idle: time.Minute}}, true)
	s.NoStations()
	s.SyncStations(at(2*time.Minute), []Station{{MAC: b, Idle: 2 * time.Minute}}, true)
	for range 8 {
		s.Tick(at(2 * time.Minute))
	}
	if _, ok := portOf(s, 0, a); ok {
		t.Error("a station that is no longer listed does not age out")
	}
	if _, ok := portOf(s, 0, b); !ok {
		t.Error("a station aged out")
	}
	for _, bad := range []Station{{}, {MAC: Broadcast}, {MAC: a, VLAN: 4095}, {MAC: s.MAC()}} {
		before := len(s.Entries(start))
		if s.AddStations(start, []Station{bad}); len(s.Entries(start)) != before {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// TestStation_bridgeWithoutVLANs: the bridge has one entry for all VLANs, so a host is protected in
// each of them.
func TestStation_bridgeWithoutVLANs(t *testing.T) {
	t.Parallel()
	for _, allVLANs := range []bool{true, false} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "mallory", VLANs: []uint16{10}})
		host := hostMAC(1)
		s.SyncStations(start, []Station{{MAC: host}}, allVLANs)
		_, r := fromPeer(s, start, 1, talk(host, 10))
		if refused := r == drop.SourceForeign; refused != allVLANs {
			t.Errorf("one entry for all VLANs is %v: a peer that uses the MAC in VLAN 10: %v", allVLANs, r)
		}
	}
}

func TestStation_pinsAndFrozenEntriesStay(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	pinned, byHand := hostMAC(1), hostMAC(2)
	addPeer(t, s, 1, PortConfig{Name: "owner", MACs: []MAC{pinned}})
	addPeer(t, s, 2, PortConfig{Name: "other"})
	if err := s.Pin(start, 0, byHand, 2); err != nil {
		t.Fatal(err)
	}
	s.SyncStations(start, []Station{{MAC: pinned}, {MAC: byHand}}, true)
	if id, _ := portOf(s, 0, byHand); id != 2 {
		t.Errorf("the bridge moved a pinned MAC to port %d", id)
	}
	if _, ok := portOf(s, 0, pinned); ok {
		t.Error("the bridge made an entry for a MAC that the configuration pins to a peer")
	}
}

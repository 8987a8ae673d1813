package l2

import (
	"testing"
	"time"

	"tund/internal/drop"
)

// testGroup is a group that a machine listens to.
const testGroup = "239.7.7.7"

// withdrawal returns the message with which a peer withdraws a MAC in the untagged LAN.
func withdrawal(macs ...MAC) []byte {
	b := appendControl(nil, controlWithdraw, len(macs)*announceEntryLen)
	for _, m := range macs {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		m.Put(b[len(b)-6:])
	}
	return b
}

// TestWithdraw_peersAreTold: the port of a host at our bridge is gone. Peers are told, but not of a
// host that aged out, nor of one that is back before they could be told.
func TestWithdraw_peersAreTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why  Departure
		back bool
		told bool
	}{{DepartureRemoved, false, true}, {DepartureRemoved, true, false}, {DepartureAged, false, false}, {DepartureMoved, false, false}} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{VLANs: []uint16{10}}) // does not carry the host's VLAN
		host := hostMAC(1)
		s.AddStations(start, []Station{{MAC: host}})
		s.Tick(start)
		s.RemoveStation(at(time.Second), 0, host, c.why)
		if c.back {
			s.AddStations(at(time.Second), []Station{{MAC: host}})
		}
		told := 0
		for _, m := range s.Tick(at(time.Second)).ToPeers {
			if kind, body, ok := parseControl(m.Payload); ok && kind == controlWithdraw {
				told++
				if m.Port != 1 || len(body) != announceEntryLen || MACFromBytes(body[2:]) != host {
					t.Errorf("told port %d: %x", m.Port, body)
				}
			}
		}
		if want := map[bool]int{true: 1}[c.told]; told != want {
			t.Errorf("%+v: %d messages, want %d", c, told, want)
		}
	}
}

// TestWithdraw_aSuccessorIsFoundAtOnce: a host behind a peer is gone, and nothing is answered on
// its behalf any more.
func TestWithdraw_aSuccessorIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	s := answering(t)
	asker, host := hostMAC(1), hostMAC(2)
	fromDevice(s, start, gratuitous(t, asker, "10.0.0.1"))
	fromPeer(s, start, 1, gratuitous(t, host, "10.0.0.2"))
	question := arp(t, 1, Broadcast, asker, "10.0.0.1", 0, "10.0.0.2")
	if _, r := fromDevice(s, at(time.Second), question); r != drop.SuppressedARP {
		t.Fatalf("while the host is there: %v", r)
	}
	if r := s.Control(at(5*time.Second), 1, withdrawal(host)); r != drop.None {
		t.Fatal(r)
	}
	if v, r := fromDevice(s, at(5*time.Second), question); r != drop.None || len(v.Out) != 1 || v.Reply != nil {
		t.Errorf("when it is gone: %v, to %v, answered with %x", r, v.Out, v.Reply)
	}
	if _, ok := portOf(s, 0, host); ok {
		t.Error("its MAC is still known")
	}
}

// TestWithdraw_onlyWhatIsThePeers: a peer withdraws addresses that are elsewhere, pinned, or have
// moved lately.
func TestWithdraw_onlyWhatIsThePeers(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	pinned, ours, theirs, moved := hostMAC(1), hostMAC(2), hostMAC(3), hostMAC(4)
	addPeer(t, s, 1, PortConfig{Name: "mallory"})
	addPeer(t, s, 2, PortConfig{Name: "honest"})
	if err := s.Pin(start, 0, pinned, 1); err != nil {
		t.Fatal(err)
	}
	fromDevice(s, start, talk(ours))
	fromPeer(s, start, 2, talk(theirs))
	fromPeer(s, start, 2, gratuitous(t, moved, "10.0.0.4"))
	fromPeer(s, at(time.Second), 1, gratuitous(t, moved, "10.0.0.4"))
	s.Tick(at(time.Second + claimWait))
	want := map[MAC]PortID{pinned: 1, ours: LocalPort, theirs: 2, moved: 1}
	s.Control(at(2*time.Second), 1, withdrawal(pinned, ours, theirs, moved))
	for mac, port := range want {
		if id, ok := portOf(s, 0, mac); !ok || id != port {
			t.Errorf("%v is at port %d, %v; want %d", mac, id, ok, port)
		}
	}
	later := at(2*time.Second + freezeWindow*time.Second)
	s.Control(later, 1, withdrawal(moved))
	if _, ok := portOf(s, 0, moved); ok {
		t.Error("what moved long ago cannot be withdrawn any more")
	}
	if r := s.Control(at(2*time.Second), 1, appendControl(nil, controlWithdraw, 0)); r != drop.None {
		t.Errorf("an empty list: %v", r)
	}
	addPeer(t, s, 3, PortConfig{VLANs: []uint16{10}})
	if r := s.Control(at(2*time.Second), 3, withdrawal(theirs)); r != drop.VLANRefused {
		t.Errorf("a VLAN that is not carried: %v", r)
	}
}

// TestWithdraw_whatMovesWithAHost: a host announces itself with a single frame at another site, and
// its old site says that it is gone before or after that frame. The frame is delivered, and the
// groups of the old place are those of the new one.
func TestWithdraw_whatMovesWithAHost(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "old"})
		addPeer(t, s, 2, PortConfig{Name: "new"})
		vm := hostMAC(1)
		fromPeer(s, start, 1, gratuitous(t, vm, "10.0.0.1"))
		fromDevice(s, start, igmpQuery(t))
		fromPeer(s, start, 1, igmp2(t, vm, 0x16, testGroup))
		now := at(10 * time.Second)
		gone := func() { s.Control(now, 1, withdrawal(vm)) }
		delivered := false
		if before {
			gone()
		}
		v, _ := fromPeer(s, now, 2, gratuitous(t, vm, "10.0.0.1"))
		delivered = v.ToDevice
		if !before {
			gone()
		}
		now = now.Add(ms)
		a := s.Tick(now)
		if !delivered && findFrame(a.ToDevice, typeARP) == nil {
			t.Errorf("withdrawn before is %v: its frame is lost", before)
		}
		if id, ok := portOf(s, 0, vm); !ok || id != 2 {
			t.Errorf("withdrawn before is %v: it is at port %d, %v", before, id, ok)
		}
		stream := udp4(t, groupMAC(testGroup), hostMAC(9), "10.0.0.9", testGroup, 5000, 5000, []byte("stream"))
		v, r := fromDevice(s, now, stream)
		found := false
		for _, id := range outPorts(v) {
			found = found || id == 2
		}
		if !found {
			t.Errorf("withdrawn before is %v: the stream goes to %v, %v", before, outPorts(v), r)
		}
	}
}

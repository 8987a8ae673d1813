package l2

import (
	"encoding/binary"
	"testing"
	"time"

	"tund/internal/drop"
)

const ms = time.Millisecond

// gratuitous returns the ARP announcement with which a host appears at a new place.
func gratuitous(t testing.TB, mac MAC, ip string) []byte {
	return arp(t, 1, Broadcast, mac, ip, 0, ip)
}

// TestClaim_aLiveLocalHostCannotBeRobbed: a peer uses the MAC of a local host; the host is asked,
// answers, and keeps it.
func TestClaim_aLiveLocalHostCannotBeRobbed(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "mallory"})
	victim := hostMAC(1)
	fromDevice(s, start, gratuitous(t, victim, "10.0.0.1"))
	now := at(30 * time.Second) // the host has been silent for a while
	for round := range 5 {
		v, r := fromPeer(s, now, 1, gratuitous(t, victim, "10.0.0.1"))
		if r != drop.SourceForeign {
			t.Fatalf("round %d: spoofed frame: %v", round, r)
		}
		if !v.Wake {
			t.Fatalf("round %d: no challenge started", round)
		}
		s.Tick(now)
		a := s.Tick(now.Add(claimGrace))
		question := findFrame(a.ToDevice, typeARP)
		if question == nil {
			t.Fatalf("round %d: the local host was not asked: %+v", round, a)
		}
		if h, _ := Parse(question); h.Dst != victim || h.Src != s.MAC() || binary.BigEndian.Uint32(question[28:]) != 0 {
			t.Fatalf("round %d: question %x", round, question)
		}
		answer := arp(t, 2, s.MAC(), victim, "10.0.0.1", s.MAC(), "0.0.0.0")
		if _, r := fromDevice(s, now.Add(claimGrace+ms), answer); r != drop.SuppressedARP {
			t.Fatalf("round %d: the answer: %v", round, r)
		}
		for d := claimGrace + 2*ms; d < claimBackoff; d += 100 * ms {
			if _, r := fromPeer(s, now.Add(d), 1, gratuitous(t, victim, "10.0.0.1")); r != drop.SourceForeign {
				t.Fatalf("round %d: spoofed frame after %v: %v", round, d, r)
			}
			s.Tick(now.Add(d))
		}
		now = now.Add(claimGrace + claimBackoff + 2*ms)
	}
	if id, ok := portOf(s, 0, victim); !ok || id != LocalPort {
		t.Errorf("the victim is at port %d, %v", id, ok)
	}
}

// TestClaim_aVMThatMovedIsFoundWithinASecond: a VM leaves our site and sends a single frame at the
// other one.
func TestClaim_aVMThatMovedIsFoundWithinASecond(t *testing.T) {
	t.Parallel()
	for _, from := range []PortID{LocalPort, 2} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "new"})
		addPeer(t, s, 2, PortConfig{Name: "old"})
		vm := hostMAC(1)
		say := gratuitous(t, vm, "10.0.0.1")
		if from == LocalPort {
			fromDevice(s, start, say)
		} else {
			fromPeer(s, start, from, say)
		}
		now := at(10 * ms) // it was heard at its old place only a moment ago
		fromPeer(s, now, 1, say)
		moved := time.Duration(0)
		var told []byte
		for d := time.Duration(0); d < time.Second && moved == 0; {
			a := s.Tick(now.Add(d))
			if from != LocalPort && d >= claimGrace && d < claimWait && len(a.ToPeers) > 0 && a.ToPeers[0].Port != from {
				t.Errorf("asked at port %d, not at the old place", a.ToPeers[0].Port)
			}
			if id, _ := portOf(s, 0, vm); id == 1 {
				moved, told = d, findFrame(a.ToDevice, typeRARP)
			}
			if a.Next <= now.Add(d) {
				t.Fatalf("Next is not later than now")
			}
			d = a.Next.Sub(now)
		}
		if moved == 0 || moved > 600*ms {
			t.Fatalf("from port %d: moved after %v", from, moved)
		}
		if told == nil || MACFromBytes(told[6:]) != vm {
			t.Errorf("from port %d: the bridge was not told: %x", from, told)
		}
		if v, r := fromDevice(s, now.Add(time.Second), eth(vm, hostMAC(9), typeIPv4)); r != drop.None || len(v.Out) != 1 || v.Out[0].Port != 1 {
			t.Errorf("from port %d: a frame for it goes to %v, %v", from, v.Out, r)
		}
	}
}

// TestClaim_comingHomeIsBelievedAtOnce covers the opposite direction of the same move; the peers
// are told of it.
func TestClaim_comingHomeIsBelievedAtOnce(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	vm := hostMAC(1)
	fromPeer(s, start, 1, gratuitous(t, vm, "10.0.0.1"))
	v, r := fromDevice(s, at(ms), gratuitous(t, vm, "10.0.0.1"))
	if r != drop.None || len(v.Out) != 2 || !v.Wake {
		t.Errorf("first frame at home: %v, to %v", r, v.Out)
	}
	if id, _ := portOf(s, 0, vm); id != LocalPort {
		t.Errorf("it is at port %d", id)
	}
	told := map[PortID]bool{}
	for _, m := range s.Tick(at(ms)).ToPeers {
		if kind, body, ok := parseControl(m.Payload); ok && kind == controlAnnounce && MACFromBytes(body[2:]) == vm {
			told[m.Port] = true
		}
	}
	if !told[1] || !told[2] {
		t.Errorf("announced to %v", told)
	}
}

// TestClaim_framesUnderWayProveNothing: a frame sent from the old place before the move must not
// keep the MAC there.
func TestClaim_framesUnderWayProveNothing(t *testing.T) {
	t.Parallel()
	f := newTestFDB(64, 64, 1, 2)
	key := entryKey(0, hostMAC(1))
	f.learn(key, 1, start)
	f.setHost(key, []byte{10, 0, 0, 1})
	f.learn(key, 2, at(10*ms))
	f.learn(key, 1, at(100*ms)) // a late frame
	if o := f.learn(key, 2, at(10*ms+claimWait)); !o.moved {
		t.Errorf("after the wait: %+v", o)
	}
}

func TestClaim_fiveMovesFreeze(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	mac := hostMAC(1)
	now := start
	hello := gratuitous(t, mac, "10.0.0.1")
	fromPeer(s, now, 1, hello)
	frozen := 0
	for move := range 6 {
		now = now.Add(time.Second)
		if move%2 == 0 {
			fromDevice(s, now, hello)
		} else {
			fromPeer(s, now, 1, hello)
			s.Tick(now)
		}
		now = now.Add(claimWait)
		for _, e := range s.Tick(now).Events {
			if e.Kind == EventFrozen {
				frozen++
			}
		}
	}
	if frozen != 1 {
		t.Fatalf("%d freeze events, want 1", frozen)
	}
	e := s.Entries(now)[0]
	if e.Port != LocalPort || e.Frozen == 0 || e.Moves != freezeMoves {
		t.Errorf("entry: %+v", e)
	}
	if _, r := fromPeer(s, now.Add(time.Minute), 1, hello); r != drop.MACFrozen {
		t.Errorf("while frozen: %v", r)
	}
	thaw := now.Add(freezeDuration * time.Second)
	fromDevice(s, thaw, hello)
	for range 8 {
		s.Tick(thaw)
	}
	if _, r := fromPeer(s, thaw, 1, hello); r != drop.SourceForeign {
		t.Errorf("thawed: %v", r)
	}
}

// TestClaim_manyClaimsAreBounded: a peer claims as many MACs as it can.
func TestClaim_manyClaimsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	const hosts = 2000
	for i := range hosts {
		frame := eth(Broadcast, hostMAC(i), typeARP)
		copy(frame[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
		hostMAC(i).Put(frame[22:])
		copy(frame[28:], []byte{10, 0, byte(i >> 8), byte(i)})
		fromDevice(s, at(time.Duration(i)*2*ms), frame)
	}
	now := at(10 * time.Second)
	for i := range hosts {
		if _, r := fromPeer(s, now, 1, eth(hostMAC(5), hostMAC(i), typeIPv4)); r != drop.SourceForeign {
			t.Fatal(r)
		}
	}
	s.Tick(now)
	if a := s.Tick(now.Add(claimGrace)); len(a.ToDevice) == 0 || len(a.ToDevice) > maxPortClaims+maxProbedVLANs {
		t.Errorf("%d questions", len(a.ToDevice))
	}
	if n := len(s.fdb.claims); n > maxPortClaims {
		t.Errorf("%d claims pending", n)
	}
}

// TestClaim_pinnedMACsAnswerAndCannotBeUsed covers macs = [...]: the MACs are accepted at that peer
// and nowhere else, and no other MAC is accepted there.
func TestClaim_pinnedMACsAnswerAndCannotBeUsed(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{MACs: []MAC{hostMAC(1), hostMAC(2)}})
	addPeer(t, s, 2, PortConfig{})
	for _, c := range []struct {
		port PortID
		mac  MAC
		want drop.Reason
	}{{1, hostMAC(1), drop.None}, {1, hostMAC(3), drop.SourceForeign}, {2, hostMAC(1), drop.SourceForeign}, {2, hostMAC(3), drop.None}, {0, hostMAC(2), drop.SourceForeign}} {
		frame := eth(Broadcast, c.mac, 0x1234)
		var r drop.Reason
		if c.port == LocalPort {
			_, r = fromDevice(s, start, frame)
		} else {
			_, r = fromPeer(s, start, c.port, frame)
		}
		if r != c.want {
			t.Errorf("%v at port %d: %v, want %v", c.mac, c.port, r, c.want)
		}
	}
	if v, r := fromDevice(s, start, eth(hostMAC(2), hostMAC(9), 0x1234)); r != drop.None || len(v.Out) != 1 || v.Out[0].Port != 1 {
		t.Errorf("to a pinned MAC that never spoke: %v %v", v.Out, r)
	}
	if err := s.SetPort(2, PortConfig{MACs: []MAC{hostMAC(1)}}); err == nil {
		t.Error("one MAC was pinned to two ports")
	}
	question := arp(t, 1, hostMAC(9), switchMAC(testNode(1)), "0.0.0.0", 0, "10.0.0.9")
	if _, r := fromPeer(s, start, 1, question); r != drop.None {
		t.Errorf("a question of the peer's own switch: %v", r)
	}
}

func findFrame(frames [][]byte, etherType uint16) []byte {
	for _, f := range frames {
		if h, ok := Parse(f); ok && h.EtherType == etherType {
			return f
		}
	}
	return nil
}

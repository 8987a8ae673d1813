package l2

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"strings"
	"testing"
	"time"

	"tund/internal/drop"
)

// successor returns a new switch with the peers of ids, which goes on with what s has saved.
func successor(t *testing.T, s *Switch, cfg Config, ids map[PortID]PortID, configs map[PortID]PortConfig) *Switch {
	t.Helper()
	var text bytes.Buffer
	var saved Saved
	if err := gob.NewEncoder(&text).Encode(s.Save()); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewDecoder(&text).Decode(&saved); err != nil {
		t.Fatal(err)
	}
	next, err := New(cfg, newRandom(2))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		c := configs[id]
		c.Name, c.Ethernet = fmt.Sprint("peer ", id), true
		if err := next.SetPort(id, c); err != nil {
			t.Fatal(err)
		}
	}
	next.Continue(at(2*time.Second), &saved, func(id PortID) (PortID, bool) {
		today, ok := ids[id]
		return today, ok
	})
	return next
}

func TestContinue_nothingIsFloodedAndNobodyIsRobbed(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{Node: 77})
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, s, id, PortConfig{})
		fromPeer(s, start, id, gratuitous(t, hostMAC(int(id)), fmt.Sprint("10.0.0.", id)))
	}
	fromDevice(s, start, gratuitous(t, hostMAC(9), "10.0.0.9"))
	// The third peer is gone.
	next := successor(t, s, Config{Node: 77}, map[PortID]PortID{1: 2, 2: 1}, nil)
	now := at(2 * time.Second)

	// Known unicast goes where it went, before any hello.
	for mac, want := range map[int]PortID{1: 2, 2: 1} {
		v, r := fromDevice(next, now, eth(hostMAC(mac), hostMAC(9), typeIPv4))
		if got := outPorts(v); r != drop.None || len(got) != 1 || got[0] != want {
			t.Errorf("to host %d: ports %v, %v, want %d", mac, got, r, want)
		}
	}
	v, r := fromPeer(next, now, 2, eth(hostMAC(9), hostMAC(1), typeIPv4))
	if !v.Known || r != drop.None {
		t.Errorf("to our LAN: %v, %v", v.Known, r)
	}
	if _, ok := portOf(next, 0, hostMAC(3)); ok {
		t.Error("the host of a peer that is gone is known")
	}
	// A peer that uses the address of another's host, or of our LAN's, has to wait for the answer.
	for _, mac := range []MAC{hostMAC(1), hostMAC(9)} {
		if _, r := fromPeer(next, now, 1, eth(hostMAC(2), mac, typeIPv4)); r != drop.SourceForeign {
			t.Errorf("the address %v is taken: %v", mac, r)
		}
	}
	// The peers are told our settings.
	hellos := 0
	for _, m := range next.Tick(now).ToPeers {
		if m.Payload[1] == controlHello {
			hellos++
		}
	}
	if hellos != 2 {
		t.Errorf("%d hellos, want 2", hellos)
	}
}

func TestContinue_whatAgedOutIsStillAskedFor(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{AgeingTime: time.Second})
	addPeer(t, s, 1, PortConfig{})
	fromDevice(s, start, gratuitous(t, hostMAC(9), "10.0.0.9"))
	quietFor(s, 3*time.Second, 13*time.Second)
	if _, known := portOf(s, 0, hostMAC(9)); known {
		t.Fatal("it has not aged out")
	}
	next := successor(t, s, Config{AgeingTime: time.Second}, map[PortID]PortID{1: 1}, nil)
	if _, r := fromPeer(next, at(14*time.Second), 1, eth(Broadcast, hostMAC(9), typeIPv4)); r != drop.SourceForeign {
		t.Errorf("a silent host of our LAN is robbed: %v", r)
	}
}

func TestContinue_frozenAddressesAndBlockedPortsStaySo(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	fromPeer(s, start, 1, gratuitous(t, hostMAC(1), "10.0.0.1"))
	_, slot, _ := s.fdb.find(entryKey(0, hostMAC(1)))
	s.fdb.setValue(slot, s.fdb.value(slot)|flagFrozen)
	s.fdb.cold[slot].frozenUntil = second(at(time.Minute))
	s.mu.Lock()
	s.block(start, block{port: 2})
	s.mu.Unlock()
	next := successor(t, s, Config{}, map[PortID]PortID{1: 5, 2: 6}, nil)
	now := at(2 * time.Second)
	if _, r := fromPeer(next, now, 6, eth(Broadcast, hostMAC(2), typeIPv4)); r != drop.LoopBlocked {
		t.Errorf("from the blocked port: %v", r)
	}
	if v, r := fromDevice(next, now, eth(Broadcast, hostMAC(9), typeIPv4)); r != drop.None || len(v.Out) != 1 || v.Out[0].Port != 5 {
		t.Errorf("a broadcast goes to %v, %v, want port 5 alone", outPorts(v), r)
	}
	if _, r := fromDevice(next, now, eth(Broadcast, hostMAC(1), typeIPv4)); r != drop.MACFrozen {
		t.Errorf("a frozen address: %v", r)
	}
	quietFor(next, 2*time.Second, 30*time.Second)
	if _, r := fromPeer(next, at(30*time.Second), 6, eth(Broadcast, hostMAC(2), typeIPv4)); r != drop.None {
		t.Errorf("the loop is gone, and the port stays blocked: %v", r)
	}
}

func TestContinue_obeysTheNewConfiguration(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{VLANs: []uint16{0, 7}})
	for n := range 20 {
		fromPeer(s, start, 1, eth(Broadcast, hostMAC(n+1), typeIPv4))
	}
	fromPeer(s, start, 1, eth(Broadcast, hostMAC(50), typeIPv4, 7))
	next := successor(t, s, Config{}, map[PortID]PortID{1: 1}, map[PortID]PortConfig{1: {MaxMACs: 5}})
	known := 0
	for n := range 20 {
		if _, ok := portOf(next, 0, hostMAC(n+1)); ok {
			known++
		}
	}
	if known > 5 {
		t.Errorf("%d addresses, want at most 5", known)
	}
	if _, ok := portOf(next, 7, hostMAC(50)); ok {
		t.Error("a VLAN that is not carried any more")
	}
	pinned := successor(t, s, Config{}, map[PortID]PortID{1: 1}, map[PortID]PortConfig{1: {MACs: []MAC{hostMAC(3)}}})
	if _, ok := portOf(pinned, 0, hostMAC(4)); ok {
		t.Error("an address that the peer may not use any more")
	}
	if still := successor(t, s, Config{NoLearning: true}, map[PortID]PortID{1: 1}, nil); len(still.fdb.save()) != 0 {
		t.Error("learning is off, and there are learned addresses")
	}
}

func TestSave_printsNothingSecret(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	saved := s.Save()
	secret := strings.Trim(fmt.Sprint(saved.Own[:6]), "[]")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, saved); strings.Contains(text, secret) || !strings.Contains(text, "(hidden)") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

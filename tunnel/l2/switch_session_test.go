package l2

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/drop"
)

func TestSwitch_noFrameBeforeTheHello(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	if err := s.SetPort(1, PortConfig{Name: "berlin", Ethernet: true}); err != nil {
		t.Fatal(err)
	}
	frame := eth(Broadcast, hostMAC(1), 0x1234)
	check := func(when string, want drop.Reason) {
		t.Helper()
		if _, r := fromDevice(s, start, frame); r != want {
			t.Errorf("%s: %v, want %v", when, r, want)
		}
	}
	check("no session", drop.NoEthernetPeer)
	s.SetPortUp(1, true, start)
	check("session, no hello", drop.NoEthernetPeer)
	hellos, silent := 0, 0
	for now := start; now < at(10*time.Minute); now = now.Add(TickInterval) {
		a := s.Tick(now)
		for _, m := range a.ToPeers {
			_, body, _ := parseControl(m.Payload)
			if h, ok := ParseHello(body); !ok || !h.Ethernet || !h.Answer || h.MTU != 1500 {
				t.Fatalf("not our hello: %+v", h)
			}
			hellos++
		}
		for _, e := range a.Events {
			if e.Kind == EventSilent {
				silent++
			}
		}
	}
	if hellos < 10 || hellos > 25 || silent != 1 {
		t.Errorf("%d hellos and %d warnings in ten minutes of silence", hellos, silent)
	}
	no := Hello{Version: 1, MTU: 1500, Node: 5}
	s.Control(start, 1, no.Append(nil))
	check("a peer without Ethernet", drop.NoEthernetPeer)
	if e := s.Tick(at(11 * time.Minute)).Events; len(e) != 1 || e[0].Kind != EventNoEthernet || !strings.Contains(e[0].String(), "berlin does not carry Ethernet") {
		t.Errorf("events: %v", e)
	}
	yes := Hello{Version: 2, Ethernet: true, Answer: true, MTU: 1400, Node: 5}
	s.Control(start, 1, yes.Append(nil))
	check("a peer with Ethernet", drop.None)
	a := s.Tick(at(12 * time.Minute))
	answered := slices.ContainsFunc(a.ToPeers, func(m Message) bool { return m.Payload[1] == controlHello })
	if !answered || len(a.Events) != 1 || a.Events[0].Kind != EventMTU {
		t.Errorf("answered %v, events %v", answered, a.Events)
	}
	long := append(frame, make([]byte, 1414+1-len(frame))...)
	if _, r := fromDevice(s, start, long); r != drop.OversizeFrame {
		t.Errorf("longer than the peer takes: %v", r)
	}
	s.SetPortUp(1, false, start)
	check("session gone", drop.NoEthernetPeer)
	if _, r := fromPeer(s, start, 9, frame); r != drop.NotEthernetPeer {
		t.Errorf("unknown port: %v", r)
	}
}

func TestSwitch_helloTellsBothEndsOfAMismatch(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	if err := s.SetPort(1, PortConfig{Name: "berlin"}); err != nil {
		t.Fatal(err)
	}
	s.SetPortUp(1, true, start)
	if a := s.Tick(start); len(a.ToPeers) != 0 {
		t.Error("a peer without ethernet = true was bothered")
	}
	s.Control(start, 1, (&Hello{Version: 1, Ethernet: true, Answer: true, Node: 3, MTU: 1500}).Append(nil))
	a := s.Tick(start)
	if len(a.Events) != 1 || a.Events[0].Kind != EventUnwantedEthernet || len(a.ToPeers) != 1 {
		t.Fatalf("%+v", a)
	}
	_, body, _ := parseControl(a.ToPeers[0].Payload)
	if h, ok := ParseHello(body); !ok || h.Ethernet {
		t.Errorf("answer: %+v", h)
	}
	if _, r := fromPeer(s, start, 1, eth(Broadcast, hostMAC(1), 0x1234)); r != drop.NotEthernetPeer {
		t.Errorf("its frame: %v", r)
	}
}

func TestSwitch_sessionUpAnnouncesOurMACs(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	for i := range 300 {
		fromDevice(s, at(time.Duration(i)*time.Second), eth(hostMAC(9999), hostMAC(i), 0x1234))
	}
	now := at(300 * time.Second)
	if err := s.SetPort(2, PortConfig{Ethernet: true, PVID: 10}); err != nil {
		t.Fatal(err)
	}
	fromDevice(s, now, eth(Broadcast, hostMAC(500), 0x1234, 10))
	for id := PortID(2); id <= 3; id++ {
		if id == 3 {
			if err := s.SetPort(3, PortConfig{Ethernet: true}); err != nil {
				t.Fatal(err)
			}
		}
		s.SetPortUp(id, true, now)
		s.Control(now, id, (&Hello{Version: 1, Ethernet: true, Node: testNode(id), MTU: 1500}).Append(nil))
	}
	got := map[PortID]int{}
	newest := false
	for _, m := range s.Tick(now).ToPeers {
		kind, body, ok := parseControl(m.Payload)
		if !ok || kind != controlAnnounce {
			continue
		}
		if len(m.Payload) > 1100 {
			t.Errorf("an announcement of %d bytes", len(m.Payload))
		}
		for ; len(body) > 0; body = body[announceEntryLen:] {
			got[m.Port]++
			if body[0] != 0 || body[1] != 0 {
				t.Errorf("to port %d: VLAN %x", m.Port, body[:2])
			}
			newest = newest || MACFromBytes(body[2:]) == hostMAC(299)
		}
	}
	if got[2] != 1 || got[3] != DefaultMaxPerPort-1 && got[3] != DefaultMaxPerPort || !newest {
		t.Errorf("announced: %v, the newest host %v", got, newest)
	}
}

func TestSwitch_deadPeersMACsGo(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	fromPeer(s, start, 1, gratuitous(t, hostMAC(1), "10.0.0.1"))
	s.SetPortUp(1, false, at(time.Second))
	if _, ok := portOf(s, 0, hostMAC(1)); ok {
		t.Error("its MAC is still known")
	}
	if _, r := fromPeer(s, at(time.Second), 2, gratuitous(t, hostMAC(1), "10.0.0.1")); r != drop.None {
		t.Errorf("appearing elsewhere: %v", r)
	}
	if id, _ := portOf(s, 0, hostMAC(1)); id != 2 {
		t.Errorf("it is at %d", id)
	}
}

package l2

import (
	"testing"
	"time"

	"tund/internal/boottime"
)

// hellosTo returns the hellos to a port that are among the actions of Tick.
func hellosTo(s *Switch, now boottime.Time, id PortID) (out []Hello) {
	for _, m := range s.Tick(now).ToPeers {
		if kind, body, ok := parseControl(m.Payload); ok && kind == controlHello && m.Port == id {
			h, _ := ParseHello(body)
			out = append(out, h)
		}
	}
	return out
}

func hear(t *testing.T, s *Switch, now boottime.Time, id PortID, answer bool) {
	t.Helper()
	h := Hello{Version: 1, Ethernet: true, Answer: answer, MTU: 9000, Node: testNode(id), Clock: second(now)}
	if r := s.Control(now, id, h.Append(nil)); r != 0 {
		t.Fatalf("hello: %v", r)
	}
}

// The peer is told of a change although its own hello arrives at the same time, and is told again
// for a while if it does not answer.
func TestHello_newsIsToldUntilItIsAnswered(t *testing.T) {
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	s.SetMTU(2000)
	hear(t, s, at(time.Second), 1, false) // this hello crossed ours
	got := hellosTo(s, at(time.Second), 1)
	if len(got) != 1 || got[0].MTU != 2000 || !got[0].Answer {
		t.Fatalf("told %+v, want the MTU of 2000, and an answer wanted", got)
	}
	if got := hellosTo(s, at(2*time.Second), 1); len(got) != 1 || got[0].MTU != 2000 {
		t.Errorf("not answered, then told %+v, want the same again", got)
	}
	hear(t, s, at(2500*time.Millisecond), 1, false)
	for i := range 20 {
		if got := hellosTo(s, at(time.Duration(3+i)*time.Second), 1); len(got) != 0 {
			t.Fatalf("answered, and told %+v after %d s", got, 3+i)
		}
	}
	s.SetMTU(1500)
	n := 0
	for i := range 300 {
		a := s.Tick(at(time.Duration(30+i) * time.Second))
		n += len(a.ToPeers)
		for _, e := range a.Events {
			if e.Kind == EventSilent {
				t.Errorf("a peer that is known to speak is called silent")
			}
		}
	}
	if n != helloTries {
		t.Errorf("told %d times without an answer, want %d", n, helloTries)
	}
}

// A peer that says goodbye is forgotten together with everything behind it, and no event is
// reported.
func TestHello_goodbye(t *testing.T) {
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	addPeer(t, s, 2, PortConfig{})
	fromPeer(s, start, 1, eth(Broadcast, hostMAC(1), typeIPv4))
	fromPeer(s, start, 2, eth(Broadcast, hostMAC(2), typeIPv4))
	h := Hello{Version: 1, Leaving: true, MTU: 1500, Node: testNode(1)}
	if r := s.Control(at(time.Second), 1, h.Append(nil)); r != 0 {
		t.Fatalf("goodbye: %v", r)
	}
	if _, ok := portOf(s, 0, hostMAC(1)); ok {
		t.Error("the host behind the peer that left is still known")
	}
	if _, ok := portOf(s, 0, hostMAC(2)); !ok {
		t.Error("the host behind the other peer is forgotten")
	}
	if v, _ := fromDevice(s, at(time.Second), eth(Broadcast, hostMAC(3), typeIPv4)); len(v.Out) != 1 || v.Out[0].Port != 2 {
		t.Errorf("a broadcast goes to %v, want the other peer alone", outPorts(v))
	}
	if a := s.Tick(at(time.Second)); len(a.Events) != 0 {
		t.Errorf("events %v, want none", a.Events)
	}
	if got := s.Goodbye(at(2 * time.Second)); len(got) != 1 || got[0].Port != 2 {
		t.Errorf("our goodbye goes to %v, want port 2 alone", got)
	} else if _, body, ok := parseControl(got[0].Payload); !ok {
		t.Error("our goodbye is no control message")
	} else if h, ok := ParseHello(body); !ok || !h.Leaving || h.Ethernet || h.Secret != [16]byte{} {
		t.Errorf("our goodbye is %+v", h)
	}
	hear(t, s, at(3*time.Second), 1, true) // the peer has restarted
	s.Tick(at(3 * time.Second))
	if v, _ := fromDevice(s, at(3*time.Second), eth(Broadcast, hostMAC(3), typeIPv4)); len(v.Out) != 2 {
		t.Errorf("after it is back a broadcast goes to %v, want both", outPorts(v))
	}
}

// Greet sends one hello, which requests no answer, to a peer that has sent a hello itself.
func TestHello_greet(t *testing.T) {
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	if err := s.SetPort(2, PortConfig{Name: "stranger", Ethernet: true}); err != nil {
		t.Fatal(err)
	}
	s.Greet(at(time.Second), 1)
	s.Greet(at(time.Second), 2)
	s.Greet(at(time.Second), 3)
	if got := hellosTo(s, at(time.Second), 1); len(got) != 1 || got[0].Answer {
		t.Errorf("greeting %+v, want one that wants no answer", got)
	}
	if got := hellosTo(s, at(time.Second), 2); len(got) != 0 {
		t.Errorf("a peer that is not up was greeted: %+v", got)
	}
}

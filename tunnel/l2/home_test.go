package l2

import (
	"testing"
	"time"

	"tund/internal/drop"
)

// announcement returns the control message in which a peer says that a MAC lives on its side.
func announcement(mac MAC) []byte {
	body := make([]byte, announceEntryLen)
	mac.Put(body[2:])
	return append(appendControl(nil, controlAnnounce, len(body)), body...)
}

// quietFor lets time pass, with the necessary ticks, and returns the time at the end.
func quietFor(s *Switch, from, to time.Duration) {
	for d := from; d <= to; d += TickInterval {
		s.Tick(at(d))
	}
}

// TestHome_aSilentHostIsAskedBeforeItIsRobbed: a host of our LAN, or of another peer, that was not
// heard for longer than the ageing time keeps its MAC if it answers, whether the attacker announces
// the MAC or uses it.
func TestHome_aSilentHostIsAskedBeforeItIsRobbed(t *testing.T) {
	t.Parallel()
	server := hostMAC(1)
	for _, owner := range []PortID{LocalPort, 2} {
		for _, silence := range []time.Duration{400 * time.Second, 5 * time.Hour} {
			for _, announced := range []bool{true, false} {
				s := newSwitch(t, Config{})
				addPeer(t, s, 1, PortConfig{Name: "mallory"})
				addPeer(t, s, 2, PortConfig{Name: "honest"})
				from := func(d time.Duration, frame []byte) {
					if owner == LocalPort {
						fromDevice(s, at(d), frame)
					} else {
						fromPeer(s, at(d), owner, frame)
					}
				}
				from(0, gratuitous(t, server, "10.0.0.1"))
				quietFor(s, 300*time.Second, 310*time.Second)
				if _, ok := portOf(s, 0, server); ok {
					t.Fatal("it did not age out")
				}
				rob := func(d time.Duration) drop.Reason {
					if announced {
						return s.Control(at(d), 1, announcement(server))
					}
					_, r := fromPeer(s, at(d), 1, eth(hostMAC(5), server, typeIPv4))
					return r
				}
				if r := rob(silence); r != drop.SourceForeign {
					t.Errorf("owner %d, announced %v: %v", owner, announced, r)
				}
				a := s.Tick(at(silence))
				if f := findFrame(a.ToDevice, typeRARP); f != nil {
					t.Errorf("owner %d, announced %v: our LAN was told of the thief: %x", owner, announced, f)
				}
				a = s.Tick(at(silence + claimGrace))
				asked := findFrame(a.ToDevice, typeARP) != nil
				for _, m := range a.ToPeers {
					asked = asked || m.Port == 2 && PayloadKind(m.Payload) == KindFrame
				}
				if !asked {
					t.Errorf("owner %d, announced %v: nobody was asked", owner, announced)
				}
				from(silence+claimGrace+10*ms, arp(t, 2, s.MAC(), server, "10.0.0.1", s.MAC(), "0.0.0.0"))
				for d := silence + claimGrace; d < silence+claimBackoff; d += 50 * ms {
					rob(d)
					s.Tick(at(d))
					if id, _ := portOf(s, 0, server); id != owner {
						t.Fatalf("owner %d, announced %v: it is at port %d", owner, announced, id)
					}
				}
			}
		}
	}
}

// TestHome_aSilentHostThatMovedIsFoundWithinASecond; it is found immediately if it appears on our
// LAN, or where it was before.
func TestHome_aSilentHostThatMovedIsFoundWithinASecond(t *testing.T) {
	t.Parallel()
	vm := hostMAC(1)
	for _, c := range []struct {
		from, to PortID
		claimed  bool
	}{{LocalPort, 1, true}, {2, 1, true}, {1, LocalPort, false}, {1, 1, false}} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "new"})
		addPeer(t, s, 2, PortConfig{Name: "old"})
		seen := func(id PortID, d time.Duration) drop.Reason {
			if id == LocalPort {
				_, r := fromDevice(s, at(d), gratuitous(t, vm, "10.0.0.1"))
				return r
			}
			_, r := fromPeer(s, at(d), id, gratuitous(t, vm, "10.0.0.1"))
			return r
		}
		seen(c.from, 0)
		quietFor(s, 300*time.Second, 310*time.Second)
		if r := seen(c.to, 400*time.Second); (r == drop.SourceForeign) != c.claimed {
			t.Errorf("from %d to %d: %v", c.from, c.to, r)
		}
		for d := 400 * time.Second; d <= 400*time.Second+600*ms; d += 50 * ms {
			s.Tick(at(d))
		}
		if id, ok := portOf(s, 0, vm); !ok || id != c.to {
			t.Errorf("from %d to %d: it is at port %d, %v", c.from, c.to, id, ok)
		}
	}
}

// TestHome_isForgottenWithItsPort, and also when it is flushed by hand, and after homeLife.
func TestHome_isForgottenWithItsPort(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(s *Switch){
		"session gone": func(s *Switch) { s.SetPortUp(2, false, at(310*time.Second)) },
		"removed":      func(s *Switch) { s.RemovePort(2) },
		"flushed":      func(s *Switch) { s.Flush(Filter{}) },
		"too old":      func(s *Switch) { quietFor(s, homeLife*time.Second+time.Second, homeLife*time.Second+10*time.Second) },
	} {
		s := newSwitch(t, Config{MaxEntries: 64})
		addPeer(t, s, 1, PortConfig{Name: "new"})
		addPeer(t, s, 2, PortConfig{Name: "old"})
		fromPeer(s, start, 2, gratuitous(t, hostMAC(1), "10.0.0.1"))
		quietFor(s, 300*time.Second, 310*time.Second)
		if len(s.fdb.homes) != 1 {
			t.Fatalf("%s: %d remembered", name, len(s.fdb.homes))
		}
		forget(s)
		if n, p := len(s.fdb.homes), s.fdb.ports[2]; n != 0 || p != nil && p.homes+p.weakHomes != 0 {
			t.Errorf("%s: %d remembered, %+v", name, n, p)
		}
	}
}

// TestHome_isBounded: hosts that were known for a while are remembered throughout a flood of
// invented ones.
func TestHome_isBounded(t *testing.T) {
	t.Parallel()
	f := newTestFDB(1024, 64, 1, 2)
	now := start
	invented := 0
	for round := range 40 {
		for range 60 {
			f.learn(entryKey(0, hostMAC(100_000+invented)), 1, now)
			invented++
		}
		if round == 20 {
			for i := range 10 {
				f.learn(entryKey(0, hostMAC(i)), 2, now)
				f.learn(entryKey(0, hostMAC(i)), 2, now.Add(2*time.Second))
			}
		}
		now = now.Add(310 * time.Second)
		for range 8 {
			f.age(now)
		}
	}
	if p := f.ports[1]; p.homes != 32 || p.weakHomes != 32 {
		t.Errorf("%d and %d of the invented ones are remembered, want 32", p.homes, p.weakHomes)
	}
	for i := range 10 {
		if h, ok := f.homes[entryKey(0, hostMAC(i))]; !ok || h.port != 2 {
			t.Errorf("host %d is forgotten", i)
		}
	}
}

// TestClaim_freezingLeavesAMACAtHome: the victim has no known address, so it cannot be asked, and
// sends only occasionally; in between, a peer takes its MAC, until the entry is frozen. It must be
// frozen at the port of the victim.
func TestClaim_freezingLeavesAMACAtHome(t *testing.T) {
	t.Parallel()
	for _, owner := range []PortID{LocalPort, 2} {
		for _, speaks := range []time.Duration{2500 * ms, 5 * time.Second, 10 * time.Second} {
			s := newSwitch(t, Config{})
			addPeer(t, s, 1, PortConfig{Name: "mallory"})
			addPeer(t, s, 2, PortConfig{Name: "honest"})
			victim := hostMAC(1)
			say := func(d time.Duration) drop.Reason {
				f := eth(Broadcast, victim, typeIPv4)
				if owner == LocalPort {
					_, r := fromDevice(s, at(d), f)
					return r
				}
				_, r := fromPeer(s, at(d), owner, f)
				return r
			}
			say(0)
			next, frozen := speaks, Event{}
			for d := time.Duration(0); d < 120*time.Second; d += 50 * ms {
				if d >= next {
					next += speaks
					say(d)
				}
				fromPeer(s, at(d), 1, eth(Broadcast, victim, typeIPv4))
				for _, e := range s.Tick(at(d)).Events {
					if e.Kind == EventFrozen {
						frozen = e
					}
				}
			}
			if owner == LocalPort && (frozen.Kind != EventFrozen || frozen.Port != owner) {
				t.Errorf("owner %d speaks every %v: frozen: %v", owner, speaks, frozen)
			}
			if id, _ := portOf(s, 0, victim); frozen.Kind == EventFrozen && id != owner {
				t.Errorf("owner %d speaks every %v: the MAC is at port %d", owner, speaks, id)
			}
			if r := say(120 * time.Second); frozen.Kind == EventFrozen && r != drop.None {
				t.Errorf("owner %d speaks every %v: %v", owner, speaks, r)
			}
		}
	}
}

// TestHome_aSilentReceiverGetsItsStream: a host that only receives has aged out. The limit of
// unknown unicast bounds what is flooded; the rest goes where the host was.
func TestHome_aSilentReceiverGetsItsStream(t *testing.T) {
	t.Parallel()
	for _, silent := range []PortID{LocalPort, 2} {
		s := newSwitch(t, Config{UnknownLimit: 100})
		addPeer(t, s, 1, PortConfig{Name: "sender"})
		addPeer(t, s, 2, PortConfig{Name: "receiver"})
		receiver, sender, nobody := hostMAC(1), hostMAC(2), hostMAC(3)
		say := func(d time.Duration, from PortID, frame []byte) (*Verdict, drop.Reason) {
			if from == LocalPort {
				return fromDevice(s, at(d), frame)
			}
			return fromPeer(s, at(d), from, frame)
		}
		source := PortID(1)
		if silent != LocalPort {
			source = LocalPort
		}
		say(0, silent, eth(Broadcast, receiver, typeIPv4))
		quietFor(s, 300*time.Second, 310*time.Second)
		got, flooded := 0, 0
		const frames = 4000
		for i := range frames {
			v, _ := say(310*time.Second+time.Duration(i)*ms/2, source, eth(receiver, sender, typeIPv4))
			if v.ToDevice || len(v.Out) > 0 && v.Out[len(v.Out)-1].Port == silent {
				got++
			}
			if len(v.Out) > 1 {
				flooded++
			}
		}
		if got != frames {
			t.Errorf("receiver at port %d: %d of %d frames", silent, got, frames)
		}
		if silent != LocalPort && (flooded == 0 || flooded > 400) {
			t.Errorf("receiver at port %d: %d frames were flooded", silent, flooded)
		}
		passed := 0
		for i := range frames {
			if _, r := say(320*time.Second+time.Duration(i)*ms/2, source, eth(nobody, sender, typeIPv4)); r == drop.None {
				passed++
			}
		}
		if passed > 400 {
			t.Errorf("%d frames to an address that was never seen passed", passed)
		}
		forgotten := s.Flush(Filter{})
		if _, ok := s.fdb.lastPort(entryKey(0, receiver)); ok {
			t.Errorf("flushed (%d), and still sent where it was", forgotten)
		}
	}
}

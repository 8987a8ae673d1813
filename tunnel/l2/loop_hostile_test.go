package l2

import (
	"strings"
	"testing"
	"time"

	"tund/internal/drop"
)

// TestSim_aRobberGetsNothing: a host at B uses the MAC of a live host at A, and of one at C.
func TestSim_aRobberGetsNothing(t *testing.T) { worlds(t, checkSimaRobberGetsNothing) }

func checkSimaRobberGetsNothing(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb, lc := &lan{}, &lan{}, &lan{}
	a, b, c := w.site("A", la, Config{}), w.site("B", lb, Config{}), w.site("C", lc, Config{})
	w.connect(a, b)
	w.connect(b, c)
	w.connect(a, c)
	va, vc, friend := w.host(la, 1), w.host(lc, 2), w.host(la, 3)
	w.run(time.Second)
	for _, h := range []*simHost{va, vc, friend} {
		w.announce(h)
	}
	w.run(20 * time.Second)
	// The frames of the attacker do not pass a switch that would stop them: B itself is hostile.
	for i := range 40 {
		for _, victim := range []MAC{va.mac, vc.mac} {
			frame := eth(Broadcast, victim, 0x1234)
			payload := make([]byte, FrameHeaderLen)
			PutFrameHeader(payload, 0, len(frame))
			for id := range b.peers {
				w.toPeer(b, id, append(append([]byte(nil), payload...), frame...))
			}
		}
		w.run(100 * time.Millisecond)
		if i%10 == 9 {
			if n := w.reaches(friend, vc); n != 1 {
				t.Fatalf("the host at C got %d frames\n%s", n, w.dump())
			}
		}
	}
	if id, ok := portOf(a.sw, 0, va.mac); !ok || id != LocalPort {
		t.Errorf("at A its own host is at port %d, %v\n%s", id, ok, w.dump())
	}
	if id, ok := portOf(a.sw, 0, vc.mac); !ok || a.peers[id] != c {
		t.Errorf("at A the host of C is at port %d, %v\n%s", id, ok, w.dump())
	}
	if !strings.Contains(w.dump(), "B used the MAC 02:00:00:00:00:01 (untagged) of a host that is alive behind local: refused") {
		t.Errorf("nobody was told\n%s", w.dump())
	}
}

// TestProbe_forgedAndReplayedBlockNothing: only a genuine, current probe counts.
func TestProbe_forgedAndReplayedBlockNothing(t *testing.T) {
	worlds(t, checkProbeforgedAndReplayedBlockNothing)
}

func checkProbeforgedAndReplayedBlockNothing(t *testing.T, seed int) {
	w := newSim(t, seed)
	la, lb := &lan{}, &lan{}
	a, b := w.site("A", la, Config{}), w.site("B", lb, Config{})
	w.connect(a, b)
	w.run(3 * time.Second)
	probe := func(s *site) []byte { return (&prober{Switch: s.sw, keys: s.sw.told()}).frame(w.now) }
	genuine := probe(a)
	forged := append([]byte(nil), genuine...)
	forged[len(forged)-1] ^= 1
	if _, r := fromDevice(b.sw, w.now, forged); r != drop.None {
		t.Errorf("forged: %v; it is somebody's broadcast", r)
	}
	if b.blockedPorts(w) != 0 {
		t.Fatal("blocked by a forged probe")
	}
	if v, r := fromDevice(b.sw, w.now, genuine); r != drop.LoopBlocked || !v.Wake || b.blockedPorts(w) != 1 {
		t.Errorf("genuine: %v, %d blocked", r, b.blockedPorts(w))
	}
	if _, r := fromDevice(b.sw, w.now, eth(Broadcast, hostMAC(1), typeIPv4)); r != drop.LoopBlocked {
		t.Errorf("a frame for the blocked port: %v", r)
	}
	if _, r := fromPeer(b.sw, w.now, 1, eth(Broadcast, hostMAC(1), typeIPv4)); r != drop.LoopBlocked {
		t.Errorf("a frame from the blocked port: %v", r)
	}
	later := w.now.Add(2 * clockSlack * time.Second)
	b.sw.Tick(later)
	if _, r := fromDevice(b.sw, later, genuine); r != drop.None || b.blockedPorts(w) != 0 {
		t.Errorf("replayed a minute later: %v, %d blocked", r, b.blockedPorts(w))
	}
}

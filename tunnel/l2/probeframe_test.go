package l2

import (
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// prober is a peer that makes probes as a switch does, and says what the test tells it to.
type prober struct {
	*Switch
	hello Hello
	keys  []*[16]byte // keys it was told, with which its probes are tagged
}

func newProber(node uint64) *prober {
	p := &prober{Switch: &Switch{node: node, secret: [16]byte{byte(node), 1}}}
	p.hello = Hello{Version: 1, Ethernet: true, MTU: 1500, Node: node, Secret: p.secret, Clock: second(start)}
	return p
}

// joins adds a port for the prober and sends its hello there.
func (p *prober) joins(t *testing.T, s *Switch, id PortID, ethernet bool) {
	t.Helper()
	if err := s.SetPort(id, PortConfig{Name: "prober", Ethernet: ethernet}); err != nil {
		t.Fatal(err)
	}
	s.SetPortUp(id, true, start)
	if r := s.Control(start, id, p.hello.Append(nil)); r != drop.None {
		t.Fatal(r)
	}
}

// frame returns a probe of the prober as sent on a LAN, untagged.
func (p *prober) frame(now boottime.Time) []byte { return p.frameIn(now, 0, 0) }

// frameIn returns a probe that names one VLAN and is in another, as if a host had moved it there.
func (p *prober) frameIn(now boottime.Time, named uint32, vid uint16) []byte {
	f := appendHeader(nil, Broadcast, switchMAC(p.node), vid, vid != 0, typeProbe)
	f = append(f, 't', 'u', 'n', 'd', 1, 0, 0, 0)
	f = p.appendProbe(f, now, named, &p.secret)
	return p.appendTags(f, p.keys)
}

// A host on the LAN sends garbage as fast as it likes, with unknown node names, with ours and with
// that of the peer. The loop that a genuine probe shows stays cut throughout.
func TestProbe_garbageDoesNotBlindTheGuard(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	p := newProber(1)
	p.joins(t, s, 1, true)
	garbage := make([][]byte, 3)
	for i, node := range []uint64{99, s.node, 1} {
		garbage[i] = newProber(node).frame(start)
		garbage[i][len(garbage[i])-1] ^= 1
	}
	const rate = 1000 // frames of garbage per second
	for d := time.Duration(0); d < 20*time.Second; d += time.Second / rate {
		fromDevice(s, at(d), garbage[int(d/(time.Second/rate))%len(garbage)])
		if d%ProbeInterval != 0 {
			continue
		}
		if _, r := fromDevice(s, at(d), p.frame(at(d))); r != drop.LoopBlocked {
			t.Fatalf("after %v a genuine probe met %v", d, r)
		}
		if s.Tick(at(d)); s.blocks == nil {
			t.Fatalf("after %v nothing is blocked", d)
		}
	}
}

// Replays of a genuine probe are not charged to the budget of other probes either.
func TestProbe_replaysSpendNoBudget(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	p := newProber(1)
	p.joins(t, s, 1, true)
	for range 1000 {
		fromDevice(s, start, p.frame(start))
	}
	if _, r := fromDevice(s, start, p.frame(start)); r != drop.LoopBlocked {
		t.Errorf("a genuine probe met %v", r)
	}
}

// A peer that is not configured for Ethernet here, or says that it does not carry it, has no
// influence on what is blocked.
func TestProbe_peerWithoutEthernetHasNoSay(t *testing.T) {
	t.Parallel()
	for _, here := range []bool{false, true} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 2, PortConfig{})
		p := newProber(1)
		p.hello.Ethernet = !here
		p.joins(t, s, 1, here)
		for from, send := range []func(){
			func() { fromDevice(s, start, p.frame(start)) },
			func() { fromPeer(s, start, 2, p.frame(start)) },
		} {
			if send(); len(s.blocks) > 0 {
				t.Errorf("configured %v: way %d: blocked: %v", here, from, s.blocks)
			}
		}
	}
}

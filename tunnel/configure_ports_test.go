package tunnel

import (
	"math/rand/v2"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/tunnel/l2"
)

// A change that changes nothing is not noticed by any peer.
func TestConfigure_unchangedPortsAreLeftAlone(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tap(), w.tap()
		a.configure(lan(b))
		b.configure(lan(a))
		passes(5 * time.Second)
		if n := a.broadcasts(1, b); n != 1 {
			t.Fatalf("%d frames arrived, want 1", n)
		}
		rec := w.record()
		for range 3 {
			a.configure(lan(b))
		}
		passes(500 * time.Millisecond)
		if sent := rec.take(0); len(sent) != 0 {
			t.Errorf("%d datagrams were sent because of an unchanged configuration", len(sent))
		}
		changed := lan(b)
		changed.Peers[0].Ethernet.VLANs = []uint16{0, 7}
		a.configure(changed)
		passes(500 * time.Millisecond)
		if sent := rec.take(0); len(sent) == 0 {
			t.Error("the peer was told nothing of a change")
		}
	})
}

// Configure refuses a change as a whole, also for what the switch would refuse.
func TestConfigure_refusedPortsChangeNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b, c := w.tap(), w.end(), w.end()
		a.configure(lan(b, 2))
		key, name := newKey(t), "renamed"
		pin := func(e *end) PeerChange {
			return PeerChange{PublicKey: e.key.Public(), Name: &name, Ethernet: &l2.PortConfig{Ethernet: true, MACs: []l2.MAC{3}}}
		}
		refused := Change{PrivateKey: &key, Peers: []PeerChange{pin(b), pin(c)}}
		if a.tun.Fits(refused) == nil || a.tun.Configure(refused) == nil {
			t.Fatal("one MAC was pinned to two peers")
		}
		s := a.tun.Status()
		if s.PublicKey != a.key.Public() || len(s.Peers) != 1 || s.Peers[0].Name != "other" {
			t.Errorf("a refused change was applied in part: %d peers, the first is %q", len(s.Peers), s.Peers[0].Name)
		}
		if n := a.tun.lan.Switch().Ports(w.clock.Now()); len(n) != 2 {
			t.Errorf("%d ports, want the device and one peer", len(n))
		}
		// The same MAC may pass from a peer that the change removes.
		moved := pin(c)
		moved.Ethernet.MACs[0] = 2
		if err := a.tun.Configure(Change{Peers: []PeerChange{moved, {PublicKey: b.key.Public(), Remove: true}}}); err != nil {
			t.Error(err)
		}
	})
}

// Two peers swap their pinned MACs in one change, as a reload may do.
func TestConfigure_pinnedMACsMaySwap(t *testing.T) {
	a := newWired(t, EthernetOptions{})
	key := func() keys.PublicKey {
		k, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	b, c := key(), key()
	pin := func(m l2.MAC) *l2.PortConfig { return &l2.PortConfig{Ethernet: true, MACs: []l2.MAC{m}} }
	for _, m := range [][2]l2.MAC{{hostA, hostB}, {hostB, hostA}} {
		err := a.tun.Configure(Change{Peers: []PeerChange{{PublicKey: b, Ethernet: pin(m[0])}, {PublicKey: c, Ethernet: pin(m[1])}}})
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[keys.PublicKey]l2.MAC{b: m[0], c: m[1]} {
			port, ok := a.tun.lan.Switch().Port(l2.PortID(a.tun.peers.Get(key).Port.Load()))
			if !ok || len(port.MACs) != 1 || port.MACs[0] != want {
				t.Errorf("port %+v, %v; want it to have %v", port, ok, want)
			}
		}
	}
}

func TestConfigure_pinnedMACPassesToThePeerThatFollows(t *testing.T) {
	inBubble(t, func(w *world) {
		const mac = l2.MAC(0x0200_0000_0001)
		a, b := w.tap(), w.tap()
		a.configure(lan(b, mac))
		b.configure(lan(a))
		passes(5 * time.Second)
		if n := b.broadcasts(mac, a); n != 1 {
			t.Fatalf("before: %d frames, want 1", n)
		}
		b.key = newKey(t)
		b.configure(Change{PrivateKey: &b.key})
		a.configure(lan(b, mac)) // the same site with a new key
		passes(10 * time.Second)
		if n := b.broadcasts(mac, a); n != 1 {
			t.Errorf("after b has got a new key: %d frames, want 1 (%v)", n, a.tun.drops.Snapshot())
		}
	})
}

// What Configure accepts after a look at the named peers alone is what it would accept after a look
// at all of them.
func TestConfigure_aPartIsJudgedLikeTheWhole(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	tun := withPeers(t, 0)
	refused := 0
	for range 3000 {
		var c Change
		for range 1 + r.IntN(3) {
			pc := numbered(r.IntN(8), network(r.IntN(8)))
			if pc.Remove = r.IntN(4) == 0; r.IntN(3) > 0 {
				pc.Ethernet.MACs = []l2.MAC{l2.MAC(2 * (1 + r.IntN(6)))}
			}
			c.Peers = append(c.Peers, pc)
		}
		set, gone := tun.portsNamed(&c)
		whole := tun.lan.Check(tun.portsAfter(&c))
		if part := tun.lan.Takes(set, gone); part && whole != nil {
			t.Fatalf("a part is accepted for which the whole is refused: %v", whole)
		} else if !part && whole == nil && len(c.Peers) == 1 {
			t.Fatal("a change of one peer has to be judged with all others")
		}
		if err := tun.Configure(c); (err == nil) != (whole == nil) {
			t.Fatalf("Configure: %v, of the whole: %v", err, whole)
		} else if err != nil {
			refused++
		}
	}
	if refused < 100 || refused > 2900 {
		t.Errorf("%d of 3000 changes were refused, which proves little", refused)
	}
}

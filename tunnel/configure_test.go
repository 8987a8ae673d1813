package tunnel

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/udp/udptest"
)

func (e *end) configure(c Change) {
	e.t.Helper()
	if err := e.tun.Configure(c); err != nil {
		e.t.Fatal(err)
	}
}

func TestConfigure_removedPeerIsCutOffBothWays(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		p := b.peerOf(a)
		b.configure(Change{Peers: []PeerChange{{PublicKey: a.key.Public(), Remove: true}}})
		w.ears.take()
		a.sends(b, 10)
		b.expect(0, "from a removed peer")
		b.sends(a, 10)
		a.expect(0, "to a removed peer")
		if n := b.dropped(drop.NoPeer); n != 1 {
			t.Errorf("no-peer = %d, want 1", n)
		}
		if n := b.dropped(drop.UnknownIndex); n != 1 {
			t.Errorf("unknown-index = %d, want 1", n)
		}
		passes(20 * time.Minute)
		if _, r, c, _, _ := w.ears.take(); r+c != 0 {
			t.Errorf("%d answers to a removed peer", r+c)
		}
		if p.Current() != nil || p.Endpoint() != nil || a.tun.env.Deadlines.Len() != 0 {
			t.Error("the removed peer has a session, an endpoint or a timer left")
		}
		b.knows(a, false) // comes back as somebody new
		a.sends(b, 10)
		passes(6 * time.Second)
		if b.got() == 0 {
			t.Error("nothing arrives after the peer was added again")
		}
	})
}

// What waits for a peer that is removed dies with it, also when a lane stages it a moment later.
func TestConfigure_removedPeerLeavesNothingStaged(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		rec := w.record()
		rec.hold(everything)
		for range 10 {
			a.sends(b, 100)
		}
		p := a.peerOf(b)
		a.configure(Change{ReplacePeers: true})
		a.tun.env.Stage(p, make([]byte, 100), w.clock.Now())
		if n := a.tun.env.Waiting.Bytes(); n != 0 {
			t.Errorf("%d bytes wait for a peer that is gone", n)
		}
		w.ears.take()
		passes(10 * time.Minute)
		if i, _, _, _, _ := w.ears.take(); i != 0 {
			t.Errorf("%d initiations to a peer that is gone", i)
		}
	})
}

// A mistake that other implementations made: peers cleared, and the engine not told.
func TestConfigure_replacingPeersWithNoneClearsAll(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		c := w.end()
		a.knows(c, true)
		a.configure(Change{ReplacePeers: true})
		a.sends(b, 10)
		a.sends(c, 10)
		b.expect(0, "after all peers were removed")
		b.sends(a, 10)
		a.expect(0, "after all peers were removed")
		if n := len(a.tun.Status().Peers); n != 0 {
			t.Errorf("%d peers left", n)
		}
		for range a.tun.routes.All {
			t.Error("an allowed IP is left")
		}
		if n := a.tun.env.Index.Len(); n != 0 {
			t.Errorf("%d indices are left", n)
		}
	})
}

func TestConfigure_allowedIPMovesToAnotherPeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		c := w.end()
		a.knows(c, true)
		c.knows(a, true)
		a.sends(c, 10)
		c.expect(1, "its own address")
		prefix := netip.MustParsePrefix("10.77.0.0/16")
		host := netip.MustParseAddr("10.77.1.1")
		for _, x := range []struct{ has, not *end }{{b, c}, {c, b}, {b, c}} {
			a.configure(Change{Peers: []PeerChange{{PublicKey: x.has.key.Public(), AllowedIPs: []netip.Prefix{prefix}}}})
			a.queue.Inject(packet(a.inner, host, 10))
			synctest.Wait()
			x.has.expect(1, "the owner now")
			x.not.expect(0, "the owner before")
			x.not.queue.Inject(packet(host, a.inner, 10))
			synctest.Wait()
			a.expect(0, "from the owner before")
			x.has.queue.Inject(packet(host, a.inner, 10))
			synctest.Wait()
			a.expect(1, "from the owner now")
		}
		a.configure(Change{Peers: []PeerChange{{PublicKey: b.key.Public(), RemoveAllowedIPs: []netip.Prefix{prefix}}}})
		a.queue.Inject(packet(a.inner, host, 10))
		synctest.Wait()
		b.expect(0, "taken away")
	})
}

// A mistake that other implementations made: a preshared key that changes and does not reach the
// handshake. It counts from the next one on.
func TestConfigure_presharedKeyCountsFromTheNextHandshake(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		psk, err := keys.GeneratePreshared()
		if err != nil {
			t.Fatal(err)
		}
		a.knows(b, true, func(p *PeerChange) { p.PresharedKey = &psk })
		a.sends(b, 10)
		b.expect(1, "the session goes on")
		passes(130 * time.Second)
		a.sends(b, 10) // renews, and fails
		b.expect(1, "with the old session")
		if got := a.tun.Status().Peers[0].Handshakes.Completed; got != 1 {
			t.Errorf("%d handshakes with different preshared keys", got)
		}
		b.knows(a, false, func(p *PeerChange) { p.PresharedKey = &psk })
		passes(6 * time.Second)
		if got := a.tun.Status().Peers[0].Handshakes.Completed; got != 2 {
			t.Errorf("%d handshakes after the other side has the key as well, want 2", got)
		}
		psk = keys.PresharedKey{}
		a.knows(b, true, func(p *PeerChange) { p.PresharedKey = &psk })
		b.knows(a, false, func(p *PeerChange) { p.PresharedKey = &psk })
		passes(130 * time.Second)
		a.sends(b, 10)
		if got := a.tun.Status().Peers[0].Handshakes.Completed; got != 3 {
			t.Errorf("%d handshakes without a preshared key again, want 3", got)
		}
	})
}

func TestConfigure_newPrivateKeyEndsEverySession(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		old := a.key
		same := a.key
		a.configure(Change{PrivateKey: &same})
		a.sends(b, 10)
		b.expect(1, "the same key again changes nothing")
		if i, _, _, _, _ := w.ears.take(); i != 0 {
			t.Errorf("%d handshakes", i)
		}

		a.key = newKey(t)
		a.configure(Change{PrivateKey: &a.key})
		a.sends(b, 10)
		b.expect(0, "b does not know the new key")
		b.sends(a, 10)
		a.expect(0, "the old session is gone")
		b.configure(Change{ReplacePeers: true})
		b.knows(a, false)
		passes(6 * time.Second)
		if b.got() == 0 {
			t.Error("nothing arrives after both know the new key")
		}
		if got := a.tun.Status().PublicKey; got != a.key.Public() || got == old.Public() {
			t.Errorf("public key %v", got)
		}

		var none keys.PrivateKey
		a.configure(Change{PrivateKey: &none})
		w.ears.take()
		a.sends(b, 10)
		passes(time.Minute)
		if i, r, c, data, _ := w.ears.take(); r+c+data != 0 {
			t.Errorf("without a key: %d %d %d %d", i, r, c, data)
		}
	})
}

func TestConfigure_ownKeyIsNoPeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		a.configure(Change{Peers: []PeerChange{{PublicKey: a.key.Public(), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}}})
		if n := len(a.tun.Status().Peers); n != 1 {
			t.Errorf("%d peers, want only b", n)
		}
		a.configure(Change{PrivateKey: &b.key}) // becomes b: then b is no peer
		if n := len(a.tun.Status().Peers); n != 0 {
			t.Errorf("%d peers after taking the key of the only one", n)
		}
	})
}

func TestConfigure_tooManyPeersChangesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		key := newKey(t)
		err := a.tun.Configure(Change{PrivateKey: &key, Peers: make([]PeerChange, maxPeers)})
		if err == nil {
			t.Error("accepted")
		}
		a.sends(b, 10)
		b.expect(1, "with the old key")
	})
}

func TestConfigure_updateOnlyMakesNobody(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.end()
		a.configure(Change{Peers: []PeerChange{{PublicKey: newKey(t).Public(), UpdateOnly: true}}})
		if n := len(a.tun.Status().Peers); n != 0 {
			t.Errorf("%d peers", n)
		}
	})
}

// Changes while packets flow lose nothing of the peers that they do not concern.
func TestConfigure_othersAreNotTouched(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		w.net.Set(udptest.Conditions{Latency: time.Millisecond})
		for i := range 200 {
			key := newKey(t).Public()
			a.queue.Inject(packet(a.inner, b.inner, 10))
			a.configure(Change{Peers: []PeerChange{{
				PublicKey: key, AllowedIPs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 24)},
			}}})
			a.queue.Inject(packet(a.inner, b.inner, 10))
			a.configure(Change{Peers: []PeerChange{{PublicKey: key, Remove: true}}})
		}
		passes(time.Second)
		b.expect(400, "while peers came and went")
		if i, _, _, _, _ := w.ears.take(); i != 0 {
			t.Errorf("%d handshakes", i)
		}
	})
}

// A mistake that other implementations made: padding to 16, clamped to the MTU. Every size arrives
// as it was sent.
func TestTunnel_everySizeIsPaddedAndArrivesAsItWas(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		rec := w.record()
		for n := 0; n <= 1400; n++ {
			a.queue.Inject(packet(a.inner, b.inner, n))
			synctest.Wait()
			f := <-b.queue.Written()
			if len(f) != 10+20+n {
				t.Fatalf("%d bytes arrive as %d", 20+n, len(f)-10)
			}
			inner := len(rec.lastOf(t, wire.TypeTransport).Payload) - wire.TransportOverhead
			if want := min((20+n+15)/16*16, 1420); inner != want {
				t.Fatalf("a packet of %d bytes is padded to %d, want %d", 20+n, inner, want)
			}
		}
	})
}

// A mistake that other implementations made: indices that tell how many peers there are, or in
// which order they came.
func TestTunnel_indicesAreRandom(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.end()
		rec := w.record()
		var ones, zeros uint32
		seen := map[uint32]bool{}
		var last, step uint32
		for i := range 64 {
			inner := netip.AddrFrom4([4]byte{10, 80, 0, byte(i)})
			a.configure(Change{Peers: []PeerChange{{
				PublicKey: newKey(t).Public(), Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 1),
				AllowedIPs: []netip.Prefix{netip.PrefixFrom(inner, 32)},
			}}})
			a.queue.Inject(packet(a.inner, inner, 10))
			synctest.Wait()
			index := wire.Sender(rec.lastOf(t, wire.TypeInitiation).Payload)
			ones, zeros = ones|index, zeros|^index
			if seen[index] || i > 1 && index-last == step {
				t.Errorf("index %d: %#x", i, index)
			}
			seen[index], last, step = true, index, index-last
		}
		if ones != ^uint32(0) || zeros != ^uint32(0) {
			t.Errorf("bits that are never set: %#x, or always: %#x", ^ones, ^zeros)
		}
	})
}

// A mistake that other implementations made: a datagram larger than anybody expects must not panic.
// Those of a session are the largest an attacker with a key can make; the largest UDP payload is
// 65,507 bytes over IPv4 and 65,527 over IPv6.
func TestTunnel_largestDatagramsAreTaken(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		s := w.stranger(elsewhere)
		s.conn.NoTrains(true)
		for i, inner := range []int{1421, 9000, 40000, 65507 - 32, 65527 - 32} {
			s.sends(b.addr, a.sealed(b, uint64(100+i), packet(a.inner, b.inner, inner-20)))
			synctest.Wait()
			f := <-b.queue.Written()
			if len(f) != 10+inner {
				t.Errorf("a packet of %d bytes arrives as %d", inner, len(f)-10)
			}
		}
		for i := range 4 {
			junk := a.sealed(b, uint64(200+i), make([]byte, 65527-32))
			s.sends(b.addr, junk)
			junk[100] ^= 1
			s.sends(b.addr, junk)
		}
		synctest.Wait()
		b.expect(0, "neither packets nor frames")
		a.sends(b, 10)
		b.expect(1, "afterwards")
		if n := b.dropped(drop.Internal); n != 0 {
			t.Errorf("%d panics", n)
		}
	})
}

// A device that is down makes a silent tunnel: as the kernel's, it neither sends nor answers, and
// starts over.
func TestSetUp_downIsSilent(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		a.knows(b, true, keepsAlive(10*time.Second))
		c := w.end()
		a.knows(c, true)
		rec := w.record()
		rec.hold(func(d udptest.Datagram) bool { return d.To == c.addr })
		a.sends(c, 10) // waits for a session
		a.tun.SetUp(false)
		a.tun.SetUp(false)
		synctest.Wait()
		rec.take(0)
		for range 60 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(10 * time.Second)
		}
		for _, d := range rec.take(0) {
			if d.From == a.addr {
				t.Fatalf("a message of %d bytes was sent while down", len(d.Payload))
			}
		}
		a.expect(0, "while down")
		if n := a.dropped(drop.DeviceDown); n < 60 {
			t.Errorf("%d counted as lost to the device, want 60 and more", n)
		}
		if n := a.tun.env.Waiting.Bytes(); n != 0 {
			t.Errorf("%d bytes still wait", n)
		}
		b.got()
		w.ears.take()
		rec.hold(nil)
		a.tun.SetUp(true)
		passes(time.Second)
		if i, _, _, _, _ := w.ears.take(); i == 0 {
			t.Error("the peer with a persistent keepalive hears nothing when the device comes up")
		}
		passes(6 * time.Second)
		b.got()
		a.got()
		a.sends(b, 10)
		b.sends(a, 10)
		if a.got() == 0 || b.got() == 0 {
			t.Error("nothing passes after the device came up")
		}
	})
}

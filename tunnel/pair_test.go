package tunnel

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/wire"
	"tund/internal/testnet"
	"tund/tunnel/udp/udptest"
)

func TestTunnel_onePacketTakesOneHandshake(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 100)
		b.expect(1, "first packet")
		b.sends(a, 100)
		a.expect(1, "answer")
		i, r, c, data, empty := w.ears.take()
		if i != 1 || r != 1 || c != 0 || data != 2 || empty != 0 {
			t.Errorf("%d initiations, %d responses, %d cookies, %d data, %d keepalives; want 1 1 0 2 0", i, r, c, data, empty)
		}
	})
}

func TestTunnel_bothStartAtOnceAndBothGetThrough(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.knows(b, true)
		b.knows(a, true)
		w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
		a.queue.Inject(packet(a.inner, b.inner, 10))
		b.queue.Inject(packet(b.inner, a.inner, 10))
		time.Sleep(time.Second)
		synctest.Wait()
		a.expect(1, "a")
		b.expect(1, "b")
	})
}

func TestTunnel_idlePeersFallSilent(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 100)
		time.Sleep(30 * time.Second)
		w.ears.take()
		time.Sleep(time.Hour)
		if i, r, c, data, empty := w.ears.take(); i+r+c+data+empty != 0 {
			t.Errorf("idle peers sent %d %d %d %d %d", i, r, c, data, empty)
		}
	})
}

func TestTunnel_dataWithoutAnswerGetsOneKeepaliveAfterTenSeconds(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 100)
		w.ears.take()
		time.Sleep(9 * time.Second)
		if _, _, _, _, empty := w.ears.take(); empty != 0 {
			t.Errorf("%d keepalives before 10 s", empty)
		}
		time.Sleep(2 * time.Second)
		if i, _, _, _, empty := w.ears.take(); empty != 1 || i != 0 {
			t.Errorf("%d keepalives, %d initiations; want 1, 0", empty, i)
		}
		time.Sleep(time.Minute)
		if i, _, _, _, empty := w.ears.take(); empty != 0 || i != 0 {
			t.Errorf("later %d keepalives, %d initiations; want none", empty, i)
		}
	})
}

func TestTunnel_fiveAPacketsASecondCrossThreeRekeysWithoutLoss(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		w.net.Set(udptest.Conditions{Latency: 15 * time.Millisecond})
		toA, toB := 0, 0
		for range 400 * 5 {
			a.queue.Inject(packet(a.inner, b.inner, 56))
			b.queue.Inject(packet(b.inner, a.inner, 56))
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			toA, toB = toA+a.got(), toB+b.got()
		}
		if toB != 2000 || toA != 1999 { // b could not know where a is at the first
			t.Errorf("%d of 2000 and %d of 1999 packets arrived", toB, toA)
		}
		i, r, _, _, _ := w.ears.take()
		if i != 4 || r != 4 {
			t.Errorf("%d initiations and %d responses in 400 s, want 4: one at 0, 120, 240 and 360 s", i, r)
		}
	})
}

func TestTunnel_sessionEndsAt180SecondsWhenRenewalFails(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		b.expect(1, "at the start")
		w.net.Filter(func(d udptest.Datagram) error { // handshakes are lost from now on
			if k, _ := wire.Kind(d.Payload); k != wire.TypeTransport {
				return udptest.Lost
			}
			return nil
		})
		time.Sleep(179 * time.Second)
		a.sends(b, 10)
		b.expect(1, "at 179 s")
		time.Sleep(2 * time.Second)
		a.sends(b, 10)
		b.expect(0, "at 181 s")
	})
}

func TestTunnel_restartedPeerIsFoundAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		b.expect(1, "before")
		b.tun.Close()
		w.start(b)
		b.knows(a, true)
		b.sends(a, 10) // the restarted side has something to say: back at once
		a.expect(1, "after the restart")
		a.sends(b, 10)
		b.expect(1, "back")

		b.tun.Close()
		w.start(b)
		b.knows(a, false)
		for range 16 * 5 { // only the other side speaks: it notices after 15 s of silence
			a.sends(b, 10)
			time.Sleep(200 * time.Millisecond)
		}
		if n := b.got(); n == 0 {
			t.Error("nothing arrives 16 s after a restart")
		}
	})
}

func TestTunnel_followsThePeerToItsNewAddress(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		b.sends(a, 10)
		a.expect(1, "before")
		a.conn.Move(netip.MustParseAddrPort("198.51.100.9:1234"))
		b.sends(a, 10)
		a.expect(0, "sent to the old address")
		a.sends(b, 10)
		b.sends(a, 10)
		a.expect(1, "after the move")
		if got := b.tun.Status().Peers[0].Endpoint; got.String() != "198.51.100.9:1234" {
			t.Errorf("endpoint = %v", got)
		}
	})
}

// A mistake that other implementations made: membership in the sender's own list is not enough, the
// longest prefix decides whose a source is.
func TestTunnel_packetFromAForeignSourceIsDropped(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		c := w.end()
		b.knows(c, false) // c owns 10.9.0.3
		// b's allowed IPs: a wide prefix for a, within which c has a longer one.
		b.knows(a, false, func(p *PeerChange) { p.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")} })
		a.sends(b, 10)
		b.expect(1, "own source")
		a.queue.Inject(packet(c.inner, b.inner, 10))
		a.queue.Inject(packet(netip.MustParseAddr("10.8.0.1"), b.inner, 10))
		synctest.Wait()
		b.expect(0, "source of another peer, source of nobody")
		if n := b.tun.Status().Drops["foreign-source"]; n != 2 {
			t.Errorf("foreign-source = %d, want 2", n)
		}
	})
}

func TestTunnel_staysSilentToStrangers(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		c := w.end() // unknown to b
		c.knows(b, true)
		c.sends(b, 10)
		if i, r, cookies, _, _ := w.ears.take(); i != 1 || r+cookies != 0 {
			t.Errorf("%d initiations, %d answers; want 1, 0", i, r+cookies)
		}
		_ = a
	})
}

func TestTunnel_presharedKeysThatDifferAreNamed(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		psk, _ := keys.GeneratePreshared()
		a.knows(b, true, func(p *PeerChange) { p.PresharedKey = &psk })
		a.sends(b, 10)
		b.expect(0, "with different preshared keys")
		got := a.tun.Status().Peers[0].LastError
		if got != "response does not decrypt: the preshared keys differ" {
			t.Errorf("initiator says %q", got)
		}
		b.knows(a, false, func(p *PeerChange) { p.PresharedKey = &psk })
		time.Sleep(6 * time.Second)
		synctest.Wait()
		b.expect(1, "after the key was added: what was staged")
		if s := a.tun.Status().Peers[0]; s.State != StateUp || s.LastError != "" {
			t.Errorf("state %s, error %q", s.State, s.LastError)
		}
	})
}

func TestTunnel_closeLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		a.tun.Close()
		b.tun.Close()
	})
	// Those outside the bubble count, too, such as that of the runtime while it runs finalizers.
	testnet.Await(t, fmt.Sprintf("%d goroutines, as before", before), 10*time.Second, func() bool {
		return runtime.NumGoroutine() <= before
	})
}

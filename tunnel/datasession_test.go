package tunnel

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tund/crypto/aead"
	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/datasession"
	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

var testCiphers = []datasession.Cost{{Suite: aead.ChaCha20Poly1305, Nanoseconds: 900}, {Suite: aead.AES256GCM, Nanoseconds: 700}}

// withCiphers makes a tunnel that knows data sessions.
func withCiphers(costs ...datasession.Cost) func(*Options) {
	return func(o *Options) { o.Ciphers = costs }
}

// postQuantum makes a change ask the peer for extensions, and for data sessions as pq says.
func postQuantum(pq datasession.PostQuantum) func(*PeerChange) {
	return func(c *PeerChange) {
		mode := peer.ExtensionsAuto
		if pq == datasession.Require {
			mode = peer.ExtensionsOn
		}
		c.Extensions, c.PostQuantum = &mode, &pq
	}
}

// dataPair makes two ends that know data sessions; only the first knows where the other is.
func (w *world) dataPair(ofA, ofB datasession.PostQuantum) (a, b *end) {
	a, b = w.dataEnd(), w.dataEnd()
	a.knows(b, true, postQuantum(ofA))
	b.knows(a, false, postQuantum(ofB))
	return a, b
}

func (w *world) dataEnd() *end {
	e := w.end()
	e.tun.Close()
	w.startWith(e, w.clock, withCiphers(testCiphers...))
	return e
}

// session returns what the status of e says of its session with its only peer.
func (e *end) session() SessionStatus {
	e.t.Helper()
	s := e.tun.Status().Peers[0].Session
	if s == nil {
		e.t.Fatal("no session")
	}
	return *s
}

// carries fails the test unless packets of both ends leave in data sessions as given.
func carries(t *testing.T, suite aead.Suite, pq bool, ends ...*end) {
	t.Helper()
	for i, e := range ends {
		if s := e.session(); s.Suite != suite.String() || s.PostQuantum != pq || s.DataTrouble != "" {
			t.Errorf("end %d: %s, post-quantum %t, %q; want %v, %t", i, s.Suite, s.PostQuantum, s.DataTrouble, suite, pq)
		}
	}
}

// transportKeys are the keys of all WireGuard sessions that e has had since spy was called.
func (e *end) mainIndex(other *end) uint32 {
	return e.peerOf(other).Current().Session.LocalIndex()
}

func TestDataSessions_carryPacketsOnceTheyStand(t *testing.T) {
	inBubble(t, func(w *world) {
		w.net.Set(udptest.Conditions{Latency: 15 * time.Millisecond})
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		a.sends(b, 100)
		passes(time.Second)
		b.expect(1, "the first packet, in the WireGuard session")
		carries(t, aead.AES256GCM, true, a, b)
		var under []uint32
		w.net.Filter(func(d udptest.Datagram) error {
			if !isHandshake(d) {
				under = append(under, wire.TransportReceiver(d.Payload))
			}
			return nil
		})
		for range 20 {
			a.sends(b, 100)
			b.sends(a, 100)
			passes(100 * time.Millisecond)
		}
		a.expect(20, "a")
		b.expect(20, "b")
		if slices.Contains(under, a.mainIndex(b)) || slices.Contains(under, b.mainIndex(a)) {
			t.Error("packets have left in the WireGuard session although data sessions stand")
		}
	})
}

// Five packets a second in both directions for 400 seconds: none is lost at a renewal, and with
// "require" none passes outside data sessions.
func TestDataSessions_crossRenewalsWithoutLoss(t *testing.T) {
	for _, pq := range []datasession.PostQuantum{datasession.Prefer, datasession.Require} {
		inBubble(t, func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 15 * time.Millisecond})
			a, b := w.dataPair(pq, pq)
			toA, toB := 0, 0
			for range 400 * 5 {
				a.queue.Inject(packet(a.inner, b.inner, 56))
				b.queue.Inject(packet(b.inner, a.inner, 56))
				passes(200 * time.Millisecond)
				toA, toB = toA+a.got(), toB+b.got()
			}
			if toB != 2000 || toA != 1999 { // b could not know where a is at the first
				t.Errorf("%v: %d of 2000 and %d of 1999 packets arrived", pq, toB, toA)
			}
			if i, r, _, _, _ := w.ears.take(); i != 4 || r != 4 {
				t.Errorf("%v: %d initiations and %d responses, want 4", pq, i, r)
			}
			carries(t, aead.AES256GCM, true, a, b)
			if n := a.dropped(drop.NotPostQuantum) + b.dropped(drop.NotPostQuantum); n != 0 {
				t.Errorf("%v: %d packets came outside data sessions", pq, n)
			}
		})
	}
}

func TestDataSessions_plainPeersAreUnchanged(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataEnd(), w.end()
		a.knows(b, true, postQuantum(datasession.Prefer))
		b.knows(a, false)
		for range 50 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(10 * time.Second)
		}
		a.expect(50, "a")
		b.expect(50, "b")
		if n := b.dropped(drop.BadInnerPacket); n != 3 {
			t.Errorf("%d messages that the peer cannot deliver, want 3", n)
		}
		if s := a.session(); s.Suite != "chacha20-poly1305" || s.PostQuantum || s.Lanes != 1 || !strings.Contains(s.DataTrouble, "does not answer as tund") {
			t.Errorf("%+v", s)
		}
		if s := a.tun.Status().Peers[0]; s.State != StateUp || s.LastError != "" {
			t.Errorf("state %s, %q", s.State, s.LastError)
		}
	})
}

// The answer is lost for good: the WireGuard session carries the packets, and status says so.
func TestDataSessions_lostAnswersLeaveTheWireGuardSession(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		w.net.Filter(func(d udptest.Datagram) error {
			if !isHandshake(d) && d.From == b.addr && len(d.Payload) > 1000 {
				return udptest.Lost
			}
			return nil
		})
		for range 20 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(time.Second)
		}
		a.expect(20, "a")
		b.expect(20, "b")
		for i, want := range []string{"no answer to our offer", "our answer does not arrive"} {
			if s := []*end{a, b}[i].session(); s.PostQuantum || !strings.Contains(s.DataTrouble, want) {
				t.Errorf("end %d: post-quantum %t, %q, want %q", i, s.PostQuantum, s.DataTrouble, want)
			}
		}
	})
}

// Both sides begin at once: there are two WireGuard sessions, each with its own agreement.
func TestDataSessions_bothSidesInitiateAtOnce(t *testing.T) {
	for _, pq := range []datasession.PostQuantum{datasession.Prefer, datasession.Require} {
		inBubble(t, func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
			a, b := w.dataEnd(), w.dataEnd()
			a.knows(b, true, postQuantum(pq))
			b.knows(a, true, postQuantum(pq))
			toA, toB := 0, 0
			for range 300 {
				a.queue.Inject(packet(a.inner, b.inner, 10))
				b.queue.Inject(packet(b.inner, a.inner, 10))
				passes(time.Second)
				toA, toB = toA+a.got(), toB+b.got()
			}
			if toA != 300 || toB != 300 {
				t.Errorf("%v: %d and %d of 300 packets arrived", pq, toA, toB)
			}
			carries(t, aead.AES256GCM, true, a, b)
		})
	}
}

// A lossy path: packets are lost, but the two sides never end in different data sessions for longer
// than it takes to notice.
func TestDataSessions_overALossyPath(t *testing.T) {
	for _, pq := range []datasession.PostQuantum{datasession.Prefer, datasession.Require} {
		inBubble(t, func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond, Loss: 0.3})
			a, b := w.dataPair(pq, pq)
			for range 600 {
				a.queue.Inject(packet(a.inner, b.inner, 10))
				b.queue.Inject(packet(b.inner, a.inner, 10))
				passes(time.Second)
			}
			a.got()
			b.got()
			w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
			passes(20 * time.Second)
			for range 200 {
				a.queue.Inject(packet(a.inner, b.inner, 10))
				b.queue.Inject(packet(b.inner, a.inner, 10))
				passes(time.Second)
			}
			if x, y := a.got(), b.got(); x < 198 || y < 198 {
				t.Errorf("%v: %d and %d of 200 packets arrive when the path is good again", pq, x, y)
			}
			carries(t, aead.AES256GCM, true, a, b)
		})
	}
}

// Indices of data sessions are released with their WireGuard session: none is left over.
func TestDataSessions_indicesAreReleased(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		for range 120 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(10 * time.Second)
		}
		for i, e := range []*end{a, b} {
			if n := e.tun.env.Index.Len(); n < 2 || n > 6 {
				t.Errorf("end %d: %d indices after ten sessions", i, n)
			}
		}
		passes(20 * time.Minute)
		for i, e := range []*end{a, b} {
			if n := e.tun.env.Index.Len(); n != 0 {
				t.Errorf("end %d: %d indices although all sessions have ended", i, n)
			}
		}
	})
}

// After a renewal, the responder has to hear at once from the initiator in the new WireGuard
// session, although packets still leave in the data sessions of the last one: until then it counts
// on the old session, and renews it itself when that is due.
func TestDataSessions_aRenewedSessionIsConfirmedAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		const latency = 400 * time.Millisecond
		w.net.Set(udptest.Conditions{Latency: latency})
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		a.sends(b, 10)
		passes(10 * time.Second)
		carries(t, aead.AES256GCM, true, a, b)
		old, oldAtB := a.peerOf(b).Current(), b.peerOf(a).Current()
		for range 1300 {
			a.sends(b, 10)
			passes(100 * time.Millisecond)
			if a.peerOf(b).Current() != old {
				break
			}
		}
		if a.peerOf(b).Current() == old {
			t.Fatal("the session was not renewed")
		}
		passes(latency)
		if b.peerOf(a).Current() == oldAtB {
			t.Error("the responder has not heard in the new session after half a round trip")
		}
	})
}

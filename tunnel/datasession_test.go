package tunnel

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/aead"
	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/datasession"
	"tund/tunnel/extension"
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

// Until data sessions stand, packets wait; the first of them is not lost.
func TestDataSessions_requireSendsNothingElse(t *testing.T) {
	inBubble(t, func(w *world) {
		w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
		a, b := w.dataPair(datasession.Require, datasession.Require)
		offers := 0
		w.net.Filter(func(d udptest.Datagram) error {
			// An offer or answer is the only message of this size.
			if !isHandshake(d) && len(d.Payload) > 1000 {
				offers++
				return udptest.Lost
			}
			return nil
		})
		for range 5 {
			a.sends(b, 100)
		}
		passes(time.Minute)
		b.expect(0, "while no offer arrives")
		if offers < 10 {
			t.Errorf("%d offers in a minute: who demands data sessions has given up", offers)
		}
		s := a.tun.Status().Peers[0]
		if s.State != StateDown || !strings.Contains(s.LastError, `post_quantum = "require": no answer to our offer`) {
			t.Errorf("state %s, %q", s.State, s.LastError)
		}
		w.net.Filter(nil)
		a.sends(b, 100)
		passes(10 * time.Second)
		if n := b.got(); n < 1 {
			t.Errorf("%d packets arrive after all", n)
		}
		carries(t, aead.AES256GCM, true, a, b)
		if s := a.tun.Status().Peers[0]; s.State != StateUp {
			t.Errorf("state %s, %q", s.State, s.LastError)
		}
	})
}

// A peer that cannot is down with a reason, gets nothing but control messages, and what it sends is
// dropped.
func TestDataSessions_requireRefusesPeersThatCannot(t *testing.T) {
	for _, tt := range []struct {
		name, reason string
		other        func(w *world, a *end) *end
	}{
		{"plain WireGuard", "does not answer as tund", func(w *world, a *end) *end {
			b := w.end()
			b.knows(a, true)
			return b
		}},
		{"tund without data sessions", "does not know data sessions", func(w *world, a *end) *end {
			b := w.end()
			b.knows(a, true, extensions(peer.ExtensionsOn))
			return b
		}},
		{"off", "post_quantum is off at the peer", func(w *world, a *end) *end {
			b := w.dataEnd()
			b.knows(a, true, postQuantum(datasession.Off))
			return b
		}},
	} {
		for _, initiator := range []bool{true, false} {
			inBubble(t, func(w *world) {
				a := w.dataEnd()
				b := tt.other(w, a)
				a.knows(b, true, postQuantum(datasession.Require))
				if initiator {
					a.sends(b, 10)
				}
				for range 20 {
					b.sends(a, 10)
					passes(time.Second)
				}
				a.expect(0, tt.name+": packets outside data sessions")
				a.sends(b, 10)
				passes(time.Second)
				b.expect(0, tt.name+": packets for a peer that cannot")
				if n := a.dropped(drop.NotPostQuantum); n < 15 {
					t.Errorf("%s: %d packets counted", tt.name, n)
				}
				s := a.tun.Status().Peers[0]
				if s.State != StateDown || !strings.Contains(s.LastError, tt.reason) || s.Since.IsZero() {
					t.Errorf("%s, initiator %t: %s since %v, %q; want down, %q", tt.name, initiator, s.State, s.Since, s.LastError, tt.reason)
				}
			})
		}
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

// Whoever restarts has no data sessions any longer. The other side notices from the first packet,
// and nothing is lost on the way.
func TestDataSessions_aRestartedPeerLosesNothing(t *testing.T) {
	for _, age := range []time.Duration{time.Second, 100 * time.Second, 150 * time.Second} {
		inBubble(t, func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 15 * time.Millisecond})
			a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
			b.sends(a, 10) // nowhere to go yet
			a.sends(b, 10)
			passes(age)
			b.got()
			w.net.Filter(func(d udptest.Datagram) error { // it crashes: nobody says goodbye
				if d.From == b.addr {
					return udptest.Lost
				}
				return nil
			})
			b.tun.Close()
			w.net.Filter(nil)
			w.startWith(b, w.clock, withCiphers(testCiphers...))
			b.knows(a, true, postQuantum(datasession.Prefer))
			for i := range 50 {
				b.sends(a, 10)
				passes(35 * time.Millisecond)
				if i == 0 {
					passes(20 * time.Millisecond) // the handshake
				}
				a.sends(b, 10) // answers
				passes(35 * time.Millisecond)
			}
			a.expect(50, fmt.Sprintf("%v: requests", age))
			b.expect(50, fmt.Sprintf("%v: answers", age))
			carries(t, aead.AES256GCM, true, a, b)
		})
	}
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

// The transport keys of the WireGuard session open its messages and nothing of the data sessions,
// and neither does what an observer can make of the recorded offers.
func TestDataSessions_transportKeysDoNotOpenThem(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Require, datasession.Require)
		var recorded [][]byte
		w.net.Watch(func(d udptest.Datagram) {
			if !isHandshake(d) {
				recorded = append(recorded, slices.Clone(d.Payload))
			}
		})
		a.sends(b, 100)
		passes(time.Second)
		for range 10 {
			a.sends(b, 100)
			b.sends(a, 100)
		}
		b.expect(11, "b")
		mains := []*session.Session{a.peerOf(b).Current().Session, b.peerOf(a).Current().Session}
		opened, closed := 0, 0
		for _, d := range recorded {
			out := make([]byte, len(d))
			ok := false
			for _, s := range mains {
				n, opens := s.Open(out, d, new(session.Scratch))
				if opens && n > 0 && out[0]>>4 == 4 {
					t.Fatal("a packet opens with the transport keys of the WireGuard session")
				}
				ok = ok || opens
			}
			if ok {
				opened++
			} else {
				closed++
			}
		}
		if opened < 4 || closed < 21 {
			t.Errorf("%d messages open, %d do not", opened, closed)
		}
	})
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

// A replayed datagram of a data session is dropped and counted, like any other.
func TestDataSessions_replaysAreDropped(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		a.sends(b, 10)
		passes(time.Second)
		r := w.record()
		a.sends(b, 10)
		b.expect(2, "before")
		s := w.stranger("198.51.100.2:4000")
		s.sends(b.addr, r.lastOf(t, wire.TypeTransport).Payload)
		synctest.Wait()
		b.expect(0, "replayed")
		if n := b.dropped(drop.Replay); n != 1 {
			t.Errorf("%d replays counted, want 1", n)
		}
	})
}

// A process that takes over the sessions of another goes on in its data sessions.
func TestDataSessions_goOnInAnotherProcess(t *testing.T) {
	for _, pq := range []datasession.PostQuantum{datasession.Prefer, datasession.Require} {
		for suspended := range 2 {
			inBubble(t, func(w *world) {
				w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond})
				a, b := w.dataPair(pq, pq)
				a.sends(b, 100)
				passes(time.Second)
				b.expect(1, "before")
				e, other := a, b
				if suspended == 1 {
					e, other = b, a
				}
				for range 2 {
					sessions := e.suspend()
					w.assemble(e, w.clock, withCiphers(testCiphers...))
					e.knows(other, false, postQuantum(pq))
					if n, err := e.tun.Continue(sessions); n != 1 || err != nil {
						t.Fatalf("%d peers continued, %v", n, err)
					}
					e.tun.Start()
					for range 20 {
						a.sends(b, 100)
						b.sends(a, 100)
						passes(200 * time.Millisecond)
					}
					a.expect(20, "to the initiator")
					b.expect(20, "to the responder")
					carries(t, aead.AES256GCM, true, a, b)
				}
				if i, _, _, _, _ := w.ears.take(); i != 1 {
					t.Errorf("%d handshakes, want the first alone", i)
				}
				for range 300 {
					a.sends(b, 100)
					b.sends(a, 100)
					passes(time.Second)
				}
				a.expect(300, "over renewals")
				b.expect(300, "over renewals")
				carries(t, aead.AES256GCM, true, a, b)
				passes(20 * time.Minute)
				if n := a.tun.env.Index.Len() + b.tun.env.Index.Len(); n != 0 {
					t.Errorf("%d indices although all sessions have ended", n)
				}
			})
		}
	}
}

// A process that takes over while data sessions are being agreed on has lost what they were to be
// made of. It offers nothing with other keys, and packets pass all the same.
func TestDataSessions_anAgreementDoesNotOutliveItsProcess(t *testing.T) {
	for _, pq := range []datasession.PostQuantum{datasession.Prefer, datasession.Require} {
		inBubble(t, func(w *world) {
			a, b := w.dataPair(pq, pq)
			w.net.Filter(func(d udptest.Datagram) error {
				if !isHandshake(d) && len(d.Payload) > 1000 {
					return udptest.Lost
				}
				return nil
			})
			a.sends(b, 100)
			passes(time.Second)
			sessions := a.suspend()
			w.net.Filter(nil)
			w.assemble(a, w.clock, withCiphers(testCiphers...))
			a.knows(b, true, postQuantum(pq))
			if _, err := a.tun.Continue(sessions); err != nil {
				t.Fatal(err)
			}
			a.tun.Start()
			passes(10 * time.Second)
			a.got()
			b.got()
			for range 200 {
				a.sends(b, 100)
				b.sends(a, 100)
				passes(time.Second)
			}
			a.expect(200, "a")
			b.expect(200, "b")
			carries(t, aead.AES256GCM, true, a, b)
		})
	}
}

// A peer that sends what it likes as offers and answers changes nothing but the counters.
func TestDataSessions_hostileOffersAreCounted(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		a.sends(b, 10)
		passes(time.Second)
		carries(t, aead.AES256GCM, true, a, b)
		indices := b.tun.env.Index.Len()
		kp, at := b.peerOf(a).Current(), b.dropped(drop.BadInnerPacket)
		part := func(number, length, size int) []byte {
			return append([]byte{byte(number), 0, byte(length >> 8), byte(length)}, make([]byte, size)...)
		}
		hostile := 0
		for _, typ := range []extension.Type{extension.TypeOffer, extension.TypeAnswer} {
			for _, body := range [][]byte{
				nil, {1}, part(0, 0, 0), part(0, 4, 4), part(9, 4, 4), part(0, 3000, 1024), part(2, 3000, 100), part(0, 65535, 1024),
			} {
				hostile++
				b.tun.env.Drop(kp.Peer, b.tun.env.Control(kp, extension.AppendMessage(nil, typ, body), b.clock.Now()), 1)
				passes(time.Millisecond)
			}
		}
		// A part that may be one of a longer message waits for the others, and an offer after the
		// agreement is ignored.
		if n := b.dropped(drop.BadInnerPacket) - at; n < uint64(hostile)-3 || n > uint64(hostile) {
			t.Errorf("%d of %d were counted", n, hostile)
		}
		if n := b.tun.env.Index.Len(); n != indices || b.dropped(drop.Internal) != 0 {
			t.Errorf("%d indices, were %d; %d panics", n, indices, b.dropped(drop.Internal))
		}
		a.sends(b, 10)
		b.sends(a, 10)
		a.expect(1, "afterwards")
		b.expect(2, "afterwards")
		carries(t, aead.AES256GCM, true, a, b)
	})
}

// "require" takes effect at once, also on sessions that stand, and ends when the peer can again.
func TestDataSessions_requireIsTurnedOnAtRunTime(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Off, datasession.Off)
		a.sends(b, 10)
		passes(time.Second)
		a.sends(b, 10)
		b.expect(2, "before")
		carries(t, aead.AES256GCM, false, a, b)

		a.knows(b, true, postQuantum(datasession.Require))
		for range 20 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(time.Second)
		}
		a.expect(0, "from a peer with post_quantum = off")
		b.expect(0, "for a peer with post_quantum = off")
		if s := a.tun.Status().Peers[0]; s.State != StateDown || !strings.Contains(s.LastError, "post_quantum is off at the peer") {
			t.Errorf("state %s, %q", s.State, s.LastError)
		}
		b.knows(a, true, postQuantum(datasession.Prefer))
		passes(20 * time.Second)
		a.got()
		b.got()
		for range 10 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(time.Second)
		}
		a.expect(10, "from a peer that can")
		b.expect(10, "for a peer that can")
		carries(t, aead.AES256GCM, true, a, b)
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

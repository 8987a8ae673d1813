package tunnel

import (
	"strings"
	"testing"
	"time"

	"tund/crypto/aead"
	"tund/internal/drop"
	"tund/tunnel/datasession"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
	"tund/tunnel/udp/udptest"
)

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

// A peer that refused data sessions and was started again, without them in its way any longer, is
// found as soon as any other that has forgotten its session, although nothing but control messages
// may be sent to it.
func TestDataSessions_requireFindsAPeerThatHasStartedAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Require, datasession.Off)
		a.sends(b, 10)
		passes(20 * time.Second)
		w.net.Filter(func(d udptest.Datagram) error { // it crashes: nobody says goodbye
			if d.From == b.addr {
				return udptest.Lost
			}
			return nil
		})
		b.tun.Close()
		w.net.Filter(nil)
		w.startWith(b, w.clock, withCiphers(testCiphers...))
		b.knows(a, false, postQuantum(datasession.Prefer))
		began := time.Now()
		for b.got() == 0 && time.Since(began) < 5*time.Minute {
			a.sends(b, 10)
			passes(time.Second)
		}
		if took := time.Since(began); took > timers.UnansweredAfter+timers.RekeyTimeout {
			t.Errorf("found after %v", took)
		}
	})
}

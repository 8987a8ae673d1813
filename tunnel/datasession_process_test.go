package tunnel

import (
	"fmt"
	"testing"
	"time"

	"tund/crypto/aead"
	"tund/tunnel/datasession"
	"tund/tunnel/udp/udptest"
)

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

// A process that takes over sessions whose data sessions are not what its configuration demands
// gets others at once, in whichever role, rather than with the next renewal.
func TestDataSessions_requireIsTurnedOnByARestart(t *testing.T) {
	for _, restarted := range []string{"initiator", "responder"} {
		inBubble(t, func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond})
			ofA, ofB := datasession.Off, datasession.Prefer
			if restarted == "responder" {
				ofA, ofB = ofB, ofA
			}
			a, b := w.dataPair(ofA, ofB)
			e, other := a, b
			if restarted == "responder" {
				e, other = b, a
			}
			a.sends(b, 100)
			passes(time.Second)
			carries(t, aead.AES256GCM, false, a, b)
			sessions := e.suspend()
			w.assemble(e, w.clock, withCiphers(testCiphers...))
			e.knows(other, false, postQuantum(datasession.Require))
			if n, err := e.tun.Continue(sessions); n != 1 || err != nil {
				t.Fatalf("%d peers continued, %v", n, err)
			}
			e.tun.Start()
			passes(6 * time.Second)
			a.got()
			b.got()
			for range 10 {
				a.sends(b, 100)
				b.sends(a, 100)
				passes(time.Second)
			}
			a.expect(10, restarted+" restarted: to the initiator")
			b.expect(10, restarted+" restarted: to the responder")
			carries(t, aead.AES256GCM, true, a, b)
		})
	}
}

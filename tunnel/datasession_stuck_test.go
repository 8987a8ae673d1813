package tunnel

import (
	"strings"
	"testing"
	"time"

	"tund/crypto/aead"
	"tund/tunnel/datasession"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
	"tund/tunnel/udp/udptest"
)

// untilBoth lets both ends send every second until packets arrive at both, and returns how long
// that took.
func untilBoth(a, b *end) time.Duration {
	began := time.Now()
	a.got()
	b.got()
	for gotA, gotB := 0, 0; (gotA == 0 || gotB == 0) && time.Since(began) < 5*time.Minute; {
		a.sends(b, 10)
		b.sends(a, 10)
		passes(time.Second)
		gotA, gotB = gotA+a.got(), gotB+b.got()
	}
	return time.Since(began)
}

// keepalive makes a change turn the persistent keepalive on.
func keepalive(interval time.Duration) func(*PeerChange) {
	return func(c *PeerChange) { c.Keepalive = &interval }
}

// A pause of the network in which all hellos of a session are lost is over when it is over, also
// where keepalives pass, which make the session look well.
func TestDataSessions_requireOutlivesAPauseInWhichHellosAreLost(t *testing.T) {
	inBubble(t, func(w *world) {
		w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond})
		a, b := w.dataPair(datasession.Require, datasession.Require)
		a.knows(b, true, keepalive(10*time.Second))
		b.knows(a, false, keepalive(10*time.Second))
		r := w.record()
		r.hold(func(d udptest.Datagram) bool { return !isHandshake(d) && len(d.Payload) != 32 })
		a.sends(b, 10)
		passes(6 * time.Second)
		r.hold(nil)
		if took := untilBoth(a, b); took > 7*time.Second {
			t.Errorf("packets pass %v after the pause", took)
		}
		carries(t, aead.AES256GCM, true, a, b)
	})
}

// The same for a peer that is watched: it is watched again soon, rather than with the next session.
func TestLiveness_outlivesAPauseInWhichHellosAreLost(t *testing.T) {
	inBubble(t, func(w *world) {
		w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond})
		every := time.Second
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.knows(b, true, func(c *PeerChange) { c.Liveness = &every })
		passes(10 * time.Second)
		r := w.record()
		r.hold(func(d udptest.Datagram) bool { return !isHandshake(d) })
		a.tun.Handshake(b.key.Public())
		passes(6 * time.Second)
		r.hold(nil)
		passes(7 * time.Second)
		r.hold(everything)
		passes(5 * time.Second)
		if s := a.tun.Status().Peers[0].State; s != StateDown {
			t.Errorf("%v five seconds after the network has gone, want down", s)
		}
	})
}

// An initiator that can do without data sessions stops offering them after twelve seconds. A
// responder that cannot begins another session, although the initiator sends and hears.
func TestDataSessions_requireOutlivesTheOffersOfAPeerThatPrefers(t *testing.T) {
	for name, lost := range map[string]func(a, b *end, d udptest.Datagram) bool{
		"no offer arrives":      func(a, _ *end, d udptest.Datagram) bool { return d.From == a.addr },
		"no answer arrives":     func(_, b *end, d udptest.Datagram) bool { return d.From == b.addr },
		"the offerer continues": func(a, _ *end, d udptest.Datagram) bool { return d.From == a.addr },
	} {
		inBubble(t, func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond})
			a, b := w.dataPair(datasession.Prefer, datasession.Require)
			r := w.record()
			r.hold(func(d udptest.Datagram) bool {
				return !isHandshake(d) && len(d.Payload) > 1000 && lost(a, b, d)
			})
			a.sends(b, 10)
			for range 13 {
				a.sends(b, 10)
				b.sends(a, 10)
				passes(time.Second)
			}
			r.hold(nil)
			if name == "the offerer continues" { // it has lost what an offer is made with
				sessions := a.suspend()
				w.assemble(a, w.clock, withCiphers(testCiphers...))
				a.knows(b, true, postQuantum(datasession.Prefer))
				if _, err := a.tun.Continue(sessions); err != nil {
					t.Fatal(err)
				}
				a.tun.Start()
			}
			if took := untilBoth(a, b); took > timers.UnansweredAfter {
				t.Errorf("%s: packets pass both ways %v after the pause", name, took)
			}
			carries(t, aead.AES256GCM, true, a, b)
		})
	}
}

// Who has turned post_quantum off and is told that the peer demands it knows that its packets are
// dropped there: the peer is down, with the reason, until one of the two is changed.
func TestDataSessions_whatThePeerDemandsMakesItDown(t *testing.T) {
	for _, initiates := range []string{"the one that is off", "the one that demands"} {
		inBubble(t, func(w *world) {
			ofA, ofB := datasession.Off, datasession.Require
			if initiates == "the one that demands" {
				ofA, ofB = ofB, ofA
			}
			a, b := w.dataPair(ofA, ofB)
			off, demands := a, b
			if ofB == datasession.Off {
				off, demands = b, a
			}
			for range 20 {
				a.sends(b, 10)
				b.sends(a, 10)
				passes(time.Second)
			}
			s := off.tun.Status().Peers[0]
			if s.State != StateDown || !strings.Contains(s.LastError, "no packets pass: the peer demands post_quantum") {
				t.Errorf("%s initiates: %s, %q", initiates, s.State, s.LastError)
			}
			demands.knows(off, initiates == "the one that demands", postQuantum(datasession.Prefer))
			if took := untilBoth(a, b); took > timers.RekeyTimeout+2*time.Second {
				t.Errorf("%s initiates: packets pass %v after the demand was dropped", initiates, took)
			}
			if s := off.tun.Status().Peers[0]; s.State != StateUp || s.LastError != "" {
				t.Errorf("%s initiates: %s, %q when nothing is demanded", initiates, s.State, s.LastError)
			}
		})
	}
}

// A host that was suspended for an hour has no sessions left when it is back. Its peer, whose own
// have aged as far as for a renewal, goes on in the data sessions that the host no longer has,
// until it notices: from the first packet of the host, though it is one that it must drop.
func TestDataSessions_aPeerThatWasSuspendedIsHeard(t *testing.T) {
	for _, pq := range []datasession.PostQuantum{datasession.Prefer, datasession.Require} {
		inBubble(t, func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond})
			a, b := w.end(), w.end()
			clock := &steppedClock{bubbleClock: w.clock}
			a.tun.Close()
			b.tun.Close()
			w.startWith(a, w.clock, withCiphers(testCiphers...))
			w.startWith(b, clock, withCiphers(testCiphers...))
			a.knows(b, false, postQuantum(pq))
			b.knows(a, true, postQuantum(datasession.Prefer))
			b.sends(a, 10)
			passes(115 * time.Second)
			carries(t, aead.AES256GCM, true, a, b)
			clock.step(time.Hour)
			if took := untilBoth(a, b); took > 2*time.Second {
				t.Errorf("post_quantum %v: packets pass %v after the host was back", pq, took)
			}
			carries(t, aead.AES256GCM, true, a, b)
		})
	}
}

// Who has taken over a session from another process and gets an offer in it cannot answer: it has
// not got what the keys are made of. It begins another session, rather than wait for the renewal.
func TestDataSessions_anOfferAfterAHandoverBeginsASession(t *testing.T) {
	for _, pq := range []datasession.PostQuantum{datasession.Prefer, datasession.Require} {
		inBubble(t, func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond})
			a, b := w.dataPair(pq, datasession.Prefer)
			r := w.record()
			r.hold(func(d udptest.Datagram) bool { return !isHandshake(d) && len(d.Payload) > 1000 })
			a.sends(b, 10)
			passes(2 * time.Second)
			sessions := b.suspend()
			r.hold(nil)
			w.assemble(b, w.clock, withCiphers(testCiphers...))
			b.knows(a, true, postQuantum(datasession.Prefer))
			if _, err := b.tun.Continue(sessions); err != nil {
				t.Fatal(err)
			}
			b.tun.Start()
			for range 8 {
				a.sends(b, 10)
				b.sends(a, 10)
				passes(time.Second)
			}
			carries(t, aead.AES256GCM, true, a, b)
		})
	}
}

package tunnel

import (
	"testing"
	"time"

	"tund/internal/drop"
	"tund/tunnel/extension"
	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

// extensions makes a change ask the peer for extensions.
func extensions(mode peer.ExtensionMode) func(*PeerChange) {
	return func(c *PeerChange) { c.Extensions = &mode }
}

// tundPair makes two ends that ask each other for extensions; only the first knows where the other
// is.
func (w *world) tundPair(ofA, ofB peer.ExtensionMode) (a, b *end) {
	a, b = w.end(), w.end()
	a.knows(b, true, extensions(ofA))
	b.knows(a, false, extensions(ofB))
	return a, b
}

// isTund reports whether e knows other as tund.
func (e *end) isTund(other *end) bool { return e.peerOf(other).Extension.Features() != 0 }

func TestExtension_helloTellsBothSides(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.sends(b, 10)
		b.expect(1, "packet")
		if !a.isTund(b) || !b.isTund(a) {
			t.Errorf("a knows b: %v, b knows a: %v", a.isTund(b), b.isTund(a))
		}
		passes(5 * time.Second)
		if _, _, _, data, _ := w.ears.take(); data != 7 {
			t.Errorf("%d messages with data, want 7: the packet, a hello and its answer, and "+
				"a probe of the path with its answer from each side", data)
		}
	})
}

// A peer that does not answer counts at most three messages that it cannot deliver, in the first
// session only.
func TestExtension_plainWireGuardPeerGetsThreeHellosInAll(t *testing.T) {
	for _, initiator := range []bool{true, false} {
		inBubble(t, func(w *world) {
			a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsOff)
			if !initiator {
				a, b = w.tundPair(peer.ExtensionsOff, peer.ExtensionsAuto)
			}
			for range 10 {
				a.sends(b, 10)
				b.sends(a, 10)
				passes(time.Minute)
			}
			asked, asking := b, a
			if !initiator {
				asked, asking = a, b
			}
			if n := asked.dropped(drop.BadInnerPacket); n != 3 {
				t.Errorf("initiator %v: %d hellos, want 3", initiator, n)
			}
			if asking.isTund(asked) {
				t.Error("known as tund")
			}
		})
	}
}

func TestExtension_onAsksInEverySession(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsOn, peer.ExtensionsOff)
		for range 10 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(time.Minute)
		}
		if n := b.dropped(drop.BadInnerPacket); n != 15 {
			t.Errorf("%d hellos in five sessions, want 15", n)
		}
	})
}

func TestExtension_lostHelloIsRepeated(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		r := w.record()
		lost := 0
		r.hold(func(d udptest.Datagram) bool {
			if isHandshake(d) || d.From != a.addr || len(d.Payload) > 48 {
				return false
			}
			lost++
			return lost <= 2
		})
		a.sends(b, 100)
		passes(3 * time.Second)
		if !a.isTund(b) || !b.isTund(a) {
			t.Error("two lost hellos, and the peers do not know each other")
		}
	})
}

// A peer that was found to be tund and answers no more is asked again in three sessions, not in
// all.
func TestExtension_autoForgetsAPeerThatStopsAnswering(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.sends(b, 10)
		b.knows(a, false, extensions(peer.ExtensionsOff))
		passes(2 * time.Minute)
		for range 8 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(2 * time.Minute)
		}
		if n := b.dropped(drop.BadInnerPacket); n != 9 {
			t.Errorf("%d hellos, want 9", n)
		}
		if a.isTund(b) {
			t.Error("still known as tund")
		}
	})
}

func TestExtension_goodbyeMakesThePeerDownAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.sends(b, 10)
		b.tun.Close()
		passes(time.Millisecond)
		s := a.tun.Status().Peers[0]
		if s.State != StateDown || s.LastError != "stopped: the peer said that it stops" {
			t.Fatalf("state %s, %q", s.State, s.LastError)
		}
		a.sends(b, 10) // asks for a session, which does not hide the reason
		passes(20 * time.Second)
		if s := a.tun.Status().Peers[0]; s.State != StateDown || s.LastError != "stopped: the peer said that it stops" {
			t.Errorf("after attempts: state %s, %q", s.State, s.LastError)
		}
		w.start(b)
		b.knows(a, true, extensions(peer.ExtensionsAuto))
		b.sends(a, 10)
		if s := a.tun.Status().Peers[0]; s.State != StateUp || s.LastError != "" {
			t.Errorf("back: state %s, %q", s.State, s.LastError)
		}
	})
}

func TestExtension_goodbyeIsNotSentToPeersThatDoNotKnowIt(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsOff)
		a.sends(b, 10)
		passes(10 * time.Second)
		before := b.dropped(drop.BadInnerPacket)
		a.tun.Close()
		passes(time.Second)
		if n := b.dropped(drop.BadInnerPacket); n != before {
			t.Errorf("%d messages at the end", n-before)
		}
	})
}

// An authenticated peer that floods us with control messages is limited, and another peer's message
// still gets through.
func TestExtension_floodIsLimitedPerPeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		c := w.end()
		b.knows(c, false, extensions(peer.ExtensionsAuto))
		c.knows(b, true, extensions(peer.ExtensionsAuto))
		a.sends(b, 10)
		kp := b.peerOf(a).Current()
		message := extension.AppendMessage(nil, extension.TypeHello, []byte{1, 0, 0, 0})
		for range 1000 {
			b.tun.env.Drop(kp.Peer, b.tun.env.Control(kp, message, b.clock.Now()), 1)
		}
		c.sends(b, 10)
		if n := b.dropped(drop.ControlRate); n < 890 || n > 905 {
			t.Errorf("%d of 1000 messages refused, want about 900", n)
		}
		if !b.isTund(c) || !c.isTund(b) {
			t.Error("another peer's hello was lost")
		}
	})
}

func TestExtension_badMessagesAreCounted(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.sends(b, 10)
		kp := b.peerOf(a).Current()
		for _, payload := range [][]byte{{0x30}, {0x31, 1, 0, 0}, {0x30, 1, 0, 9, 1}, {0x30, 1, 0xff, 0xff}} {
			if r := b.tun.env.Control(kp, payload, b.clock.Now()); r != drop.BadInnerPacket {
				t.Errorf("% x: %v", payload, r)
			}
		}
		before := b.dropped(drop.BadInnerPacket)
		// Hellos that are too short, or of no version.
		b.tun.env.Control(kp, []byte{0x30, 1, 0, 3, 1, 0, 0}, b.clock.Now())
		b.tun.env.Control(kp, []byte{0x30, 1, 0, 4, 0, 0, 0, 0}, b.clock.Now())
		passes(time.Millisecond)
		if n := b.dropped(drop.BadInnerPacket) - before; n != 2 {
			t.Errorf("%d bad hellos counted, want 2", n)
		}
		if r := b.tun.env.Control(kp, []byte{0x30, 200, 0, 0}, b.clock.Now()); r != drop.None {
			t.Errorf("a type of a later version: %v", r)
		}
	})
}

func TestExtension_goodbyeOfAnEarlierSessionEndsNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.sends(b, 10)
		old := b.peerOf(a).Current()
		passes(2 * time.Minute)
		a.sends(b, 10)
		a.sends(b, 10)
		if b.peerOf(a).Current() == old {
			t.Fatal("no new session")
		}
		b.tun.env.Control(old, extension.AppendMessage(nil, extension.TypeGoodbye, nil), b.clock.Now())
		passes(time.Millisecond)
		if s := b.tun.Status().Peers[0]; s.State != StateUp {
			t.Errorf("state %s, %q", s.State, s.LastError)
		}
	})
}

// A goodbye may come in a data session, and counts for the WireGuard session in which that was
// agreed.
func TestExtension_goodbyeInADataSession(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		for _, e := range []*end{a, b} {
			e.tun.Close()
			w.startWith(e, w.clock, withCiphers(testCiphers...))
		}
		a.knows(b, true, extensions(peer.ExtensionsAuto))
		b.knows(a, false, extensions(peer.ExtensionsAuto))
		a.sends(b, 10)
		passes(2 * time.Second)
		a.sends(b, 10)
		b.sends(a, 10)
		b.tun.Close()
		passes(time.Millisecond)
		if s := a.tun.Status().Peers[0]; s.State != StateDown || s.LastError != "stopped: the peer said that it stops" {
			t.Errorf("state %s, %q", s.State, s.LastError)
		}
	})
}

// After a kill and a new start, the side that nobody would speak to first asks for a session, so
// the other one does not send into the void for 15 seconds.
func TestExtension_formerPeersAreFoundAgainAfterAStart(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		plain := w.end()
		b.knows(plain, false, extensions(peer.ExtensionsAuto))
		plain.knows(b, true)
		a.sends(b, 10)
		plain.sends(b, 10)
		passes(5 * time.Second)
		former := b.tun.Contacts()
		if len(former) != 1 || former[0].PublicKey != a.key.Public() || former[0].Endpoint != a.addr {
			t.Fatalf("contacts %+v, want the peer that is tund", former)
		}
		b.conn.Close() // nothing says goodbye
		w.start(b)
		b.knows(a, false, extensions(peer.ExtensionsAuto))
		b.tun.Contact(append(former, Contact{plain.key.Public(), plain.addr})) // not configured now
		passes(100 * time.Millisecond)
		b.written()
		a.sends(b, 10)
		b.expect(1, "what the other side sends right after the start")
		if i, _, _, _, _ := w.ears.take(); i != 3 {
			t.Errorf("%d initiations, want 3: two before the start and one after", i)
		}
	})
}

// Hellos that are lost in one session, and be it because somebody on the way drops them, do not
// make two tunds forget each other for ever.
func TestExtension_lostHellosOfOneSessionAreNoFarewell(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.sends(b, 100)
		passes(100 * time.Second)
		if !a.isTund(b) || !b.isTund(a) {
			t.Fatal("no hello to begin with")
		}
		dropping := true
		w.net.Filter(func(d udptest.Datagram) error {
			if dropping && !isHandshake(d) && len(d.Payload) == 48 { // a hello
				return udptest.Lost
			}
			return nil
		})
		for range 60 {
			a.sends(b, 100)
			b.sends(a, 100)
			passes(time.Second)
		}
		if a.isTund(b) || b.isTund(a) {
			t.Fatal("hellos arrive")
		}
		dropping = false
		for range 120 {
			a.sends(b, 100)
			b.sends(a, 100)
			passes(time.Second)
		}
		if !a.isTund(b) || !b.isTund(a) {
			t.Errorf("a session later: a knows b: %v, b knows a: %v", a.isTund(b), b.isTund(a))
		}
	})
}

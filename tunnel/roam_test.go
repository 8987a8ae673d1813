package tunnel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/tunnel/udp/udptest"
)

const elsewhere = "198.51.100.1:4000"

// A mistake that other implementations made: the endpoint follows the newest authenticated data,
// and nothing else that carries data.
func TestRoaming_onlyTheNewestDataMovesThePeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		s := w.stranger(elsewhere)
		rec := w.record()
		a.sends(b, 12)
		sent := rec.lastOf(t, wire.TypeTransport).Payload
		newest := wire.TransportCounter(sent)
		data := packet(a.inner, b.inner, 12)
		forged := a.sealed(b, newest+10, data)
		forged[20] ^= 1
		for _, c := range []struct {
			name  string
			msg   []byte
			moves bool
		}{
			{"a replay of the newest", sent, false},
			{"a forged one", forged, false},
			{"the newest", a.sealed(b, newest+10, data), true},
		} {
			s.sends(b.addr, c.msg)
			synctest.Wait()
			if moved := b.endpointOf(a) == s.addr; moved != c.moves {
				t.Errorf("%s: moved %v, want %v", c.name, moved, c.moves)
			}
		}
		b.got()
		s2 := w.stranger("198.51.100.2:4000")
		s2.sends(b.addr, a.sealed(b, newest+5, data)) // new, but older than the newest
		synctest.Wait()
		b.expect(1, "an older counter that was not seen before")
		if got := b.endpointOf(a); got != s.addr {
			t.Errorf("an older message moved the peer to %v", got)
		}
		s2.sends(b.addr, a.sealed(b, newest+11, nil)) // a keepalive is as good
		synctest.Wait()
		if got := b.endpointOf(a); got != s2.addr {
			t.Errorf("a keepalive from %v left the peer at %v", s2.addr, got)
		}
		if b.tun.Status().Peers[0].Roamed.IsZero() {
			t.Error("status does not tell of the move")
		}
	})
}

// The last message of the session before, held back by somebody, does not take the peer away from
// the current one.
func TestRoaming_oldSessionDoesNotMoveThePeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(100 * time.Second)
		rec := w.record()
		rec.hold(everything)
		a.sends(b, 12)
		held := rec.lastOf(t, wire.TypeTransport).Payload
		rec.hold(nil)
		passes(25 * time.Second)
		a.sends(b, 12) // asks for a new session
		a.sends(b, 12)
		b.expect(2, "across the renewal")
		s := w.stranger(elsewhere)
		s.sends(b.addr, held)
		synctest.Wait()
		b.expect(1, "data of the old session") // genuine and new: it is delivered
		if got := b.endpointOf(a); got != a.addr {
			t.Errorf("it moved the peer to %v", got)
		}
	})
}

// An initiation may be a recorded one, so it moves nobody: what is sent under its session does.
func TestRoaming_sessionsMoveThePeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(200 * time.Second)
		there := netip.MustParseAddrPort(elsewhere)
		a.conn.Move(there)
		rec := w.record()
		rec.hold(func(d udptest.Datagram) bool { return !isHandshake(d) })
		a.sends(b, 10)
		if got := b.endpointOf(a); got != a.addr {
			t.Errorf("after an initiation from %v, which proves nothing, the peer is at %v", there, got)
		}
		rec.hold(nil)
		a.sends(b, 10)
		if got := b.endpointOf(a); got != there {
			t.Errorf("after a message under the session from %v the peer is at %v", there, got)
		}
		msg := rec.take(wire.TypeInitiation)[0].Payload
		s := w.stranger("198.51.100.2:4000")
		passes(200 * time.Second)
		s.sends(b.addr, msg) // too old to be remembered as a copy; its timestamp gives it away
		synctest.Wait()
		if got := b.endpointOf(a); got != there {
			t.Errorf("a replayed initiation moved the peer to %v", got)
		}
		if n := len(s.got()); n != 0 {
			t.Errorf("%d answers to a replayed initiation", n)
		}
	})
}

// An initiation that was recorded long ago is sent again, from somewhere else, after our restart
// has forgotten its timestamp.
func TestRoaming_replayAfterARestartMovesNobody(t *testing.T) {
	for _, keepalive := range []time.Duration{0, 25 * time.Second} {
		inBubble(t, func(w *world) {
			a, b := w.end(), w.end()
			once := func(c *PeerChange) { c.Endpoints, c.Keepalive = []netip.AddrPort{b.addr}, &keepalive }
			a.knows(b, false, once)
			b.knows(a, true)
			rec := w.record()
			b.sends(a, 10)
			a.expect(1, "before")
			recorded := rec.lastOf(t, wire.TypeInitiation)
			passes(time.Hour)
			a.tun.Close()
			w.start(a)
			a.knows(b, false, once)
			synctest.Wait()
			s := w.stranger("198.51.100.66:4444")
			s.sends(a.addr, recorded.Payload)
			synctest.Wait()
			s.got()
			if got := a.endpointOf(b); got != b.addr {
				t.Errorf("the peer is at %v, want %v", got, b.addr)
			}
			for range 10 {
				a.sends(b, 10)
				passes(time.Second)
			}
			b.expect(10, "after the replay")
			if n := len(s.got()); n != 0 {
				t.Errorf("the stranger got %d more datagrams", n)
			}
		})
	}
}

// clockSet is a clock whose time of day was set.
type clockSet struct {
	Clock
	by time.Duration
}

func (c clockSet) Wall() time.Time { return c.Clock.Wall().Add(c.by) }

// A host whose clock goes back while it is down is not refused by its peers, even if it was killed
// before it could save its last timestamps.
func TestHandshakes_aClockThatGoesBackOverARestartLocksNobodyOut(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		b.knows(a, false)
		file := &kept{newest: make(map[keys.PublicKey]noise.Timestamp)}
		begin := func(by time.Duration) {
			a.tun.Close()
			w.startWith(a, clockSet{w.clock, by}, func(o *Options) { o.Timestamps = file })
			a.knows(b, true)
		}
		begin(0)
		a.sends(b, 10)
		b.expect(1, "in the present")
		saved := file.LastSent(b.key.Public())
		passes(time.Minute)
		begin(0)
		a.sends(b, 10)
		b.expect(1, "a minute later")
		for i := range 3 {
			file.sent[b.key.Public()] = saved // what came later was not saved
			passes(time.Minute)
			begin(-24 * time.Hour)
			a.sends(b, 10)
			b.expect(1, fmt.Sprintf("restart %d, with a clock a day behind", i+1))
			saved = file.LastSent(b.key.Public())
		}
	})
}

// A peer that is not where it was heard last is looked for where it is configured, and then where
// it was heard again: whichever it is at, it is found.
func TestRoaming_configuredEndpointIsTriedAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		home, away := b.addr, netip.MustParseAddrPort(elsewhere)
		a.knows(b, false, func(c *PeerChange) { c.Endpoints = []netip.AddrPort{home} })
		b.knows(a, true)
		a.sends(b, 10)
		b.conn.Move(away)
		b.sends(a, 10)
		if got := a.endpointOf(b); got != away {
			t.Fatalf("the peer is at %v, want %v, where it roamed to", got, away)
		}
		passes(20 * time.Second) // it has its answer, and nothing more to say
		b.conn.Move(home)
		passes(200 * time.Second)
		b.got()
		chatter(a, b, 12)
		if n := b.got(); n < 50 || a.endpointOf(b) != home {
			t.Errorf("back at home: %d packets in 12 s, and the peer is at %v", n, a.endpointOf(b))
		}
		b.conn.Move(away)
		b.sends(a, 10)
		passes(220 * time.Second)
		lost := 0
		w.net.Filter(losingHandshakes(&lost, 1)) // which says little about where the peer is
		b.got()
		chatter(a, b, 17)
		if n := b.got(); n < 50 || a.endpointOf(b) != away {
			t.Errorf("away: %d packets in 17 s, and the peer is at %v", n, a.endpointOf(b))
		}
	})
}

// The initiator follows the responder as well: it may answer from another address than it was
// reached at.
func TestRoaming_responsesMoveThePeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		s := w.stranger(elsewhere)
		rec := w.record()
		rec.hold(fromAddr(b.addr))
		a.sends(b, 10)
		response := rec.lastOf(t, wire.TypeResponse).Payload
		rec.hold(nil)
		s.sends(a.addr, response)
		synctest.Wait()
		if got := a.endpointOf(b); got != s.addr {
			t.Errorf("after a response from %v the peer is at %v", s.addr, got)
		}
	})
}

// With two endpoints the second is tried when the first does not answer, also while traffic flows
// all the time.
func TestRoaming_secondEndpointIsTried(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		dead := netip.MustParseAddrPort("203.0.113.1:51820")
		err := a.tun.Configure(Change{Peers: []PeerChange{{PublicKey: b.key.Public(), Endpoints: []netip.AddrPort{dead, b.addr}}}})
		if err != nil {
			t.Fatal(err)
		}
		a.peerOf(b).SetEndpoint(endpointAt(dead))
		for range 12 {
			a.sends(b, 10)
			passes(time.Second)
		}
		if b.got() == 0 || a.endpointOf(b) != b.addr {
			t.Errorf("after 12 s at %v, which does not answer: the peer is at %v", dead, a.endpointOf(b))
		}
	})
}

// Renewal under reordering, loss and duplication: what the network delivers, the host gets, once.
func TestTunnel_badNetworkLosesOnlyWhatItLoses(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		b.sends(a, 10)
		a.got()
		b.got()
		random := rand.New(rand.NewPCG(7, 7))
		w.net.Set(udptest.Conditions{Latency: 10 * time.Millisecond, Duplicate: 0.1, Reorder: 0.2, ReorderBy: 30 * time.Millisecond})
		lost := map[netip.AddrPort]int{}
		w.net.Filter(func(d udptest.Datagram) error {
			if random.Float64() >= 0.05 {
				return nil
			}
			if len(d.Payload) > wire.MinTransportSize && !isHandshake(d) {
				lost[d.From]++
			}
			return udptest.Lost
		})
		const rounds, burst = 400 * 4, 3
		toA, toB := 0, 0
		for range rounds {
			for range burst {
				a.queue.Inject(packet(a.inner, b.inner, 60))
				b.queue.Inject(packet(b.inner, a.inner, 60))
			}
			passes(250 * time.Millisecond)
			toA, toB = toA+a.got(), toB+b.got()
		}
		passes(time.Second)
		toA, toB = toA+a.got(), toB+b.got()
		if want := rounds*burst - lost[a.addr]; toB != want {
			t.Errorf("b got %d packets, want %d; %v", toB, want, b.tun.drops.Snapshot())
		}
		if want := rounds*burst - lost[b.addr]; toA != want {
			t.Errorf("a got %d packets, want %d; %v", toA, want, a.tun.drops.Snapshot())
		}
		if i, _, _, _, _ := w.ears.take(); i < 4 {
			t.Errorf("%d initiations in 400 s", i)
		}
	})
}

// Both begin at once, at every phase of each other's handshake, and neither loses anything
// afterwards.
func TestTunnel_simultaneousHandshakesAtEveryPhase(t *testing.T) {
	for phase := range 9 {
		inBubble(t, func(w *world) {
			a, b := w.end(), w.end()
			a.knows(b, true)
			b.knows(a, true)
			w.net.Set(udptest.Conditions{Latency: 20 * time.Millisecond})
			a.queue.Inject(packet(a.inner, b.inner, 10))
			time.Sleep(time.Duration(phase) * 10 * time.Millisecond)
			b.queue.Inject(packet(b.inner, a.inner, 10))
			passes(100 * time.Millisecond)
			for range 130 {
				a.queue.Inject(packet(a.inner, b.inner, 10))
				b.queue.Inject(packet(b.inner, a.inner, 10))
				passes(time.Second)
			}
			a.expect(131, "a")
			b.expect(131, "b")
			if i, _, _, _, _ := w.ears.take(); i > 4 {
				t.Errorf("phase %d: %d initiations in 130 s", phase, i)
			}
		})
	}
}

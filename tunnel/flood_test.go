package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/handshake"
)

// burst is how many handshakes of one source are worked on at once, under load (kernel
// ratelimiter.c).
const burst = 5

// load makes e believe that it is under load for d.
func (e *end) load(w *world, d time.Duration) {
	e.tun.handshakes.Load.Raise(w.clock.Now().Add(d))
}

// hold keeps e's handshake workers busy while f runs: they wait for the clock.
func (e *end) hold(f func()) {
	e.clock.workers.Lock()
	e.clock.held.Store(true)
	defer func() {
		e.clock.held.Store(false)
		e.clock.workers.Unlock()
	}()
	f()
}

// settled waits, while workers are held, until e has received everything sent to it.
func (e *end) settled(what string, n uint64, count func() uint64) {
	e.t.Helper()
	await(e.t, what, func() bool { return count() >= n })
}

// A mistake that other implementations made: a global limiter, or a cookie after each 100th
// handshake. Load is a long queue and nothing else.
func TestLoad_manyHandshakesOneAfterTheOtherAreNoLoad(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		s := w.stranger("198.51.100.1:4000")
		unknown := newHand(newKey(t), b.key.Public())
		for range 250 {
			msg, _ := unknown.initiation(w, time.Now())
			s.sends(b.addr, msg)
			synctest.Wait()
		}
		if n := len(s.got()); n != 0 {
			t.Errorf("a server that is not under load sent %d answers to a stranger", n)
		}
		if b.tun.Status().UnderLoad || b.dropped(drop.HandshakeFailed) != 250 {
			t.Errorf("under load %v, %v", b.tun.Status().UnderLoad, b.tun.drops.Snapshot())
		}
	})
}

func TestLoad_aLongQueueDemandsProofAndForgetsAfterASecond(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		s := w.stranger("198.51.100.1:4000")
		unknown := newHand(newKey(t), b.key.Public())
		b.hold(func() {
			for range 2 * handshake.UnderLoadDepth {
				msg, _ := unknown.initiation(w, time.Now())
				s.sends(b.addr, msg)
			}
			await(t, "load", func() bool { return b.tun.Status().UnderLoad })
		})
		synctest.Wait()
		if !b.tun.Status().UnderLoad {
			t.Error("not under load")
		}
		answers := s.got()
		if len(answers) == 0 {
			t.Error("nobody was asked to prove the address")
		}
		for _, a := range answers {
			if len(a) != wire.CookieReplySize || len(a) > wire.InitiationSize {
				t.Fatalf("an unauthenticated datagram got %d bytes in return", len(a))
			}
		}
		passes(time.Second + time.Millisecond)
		if b.tun.Status().UnderLoad {
			t.Error("still under load a second later")
		}
		msg, _ := unknown.initiation(w, time.Now())
		s.sends(b.addr, msg)
		synctest.Wait()
		if n := len(s.got()); n != 0 {
			t.Errorf("%d answers after the load", n)
		}
	})
}

func TestLoad_initiatorProvesItsAddressWithinOneRetry(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		b.load(w, time.Minute)
		a.sends(b, 10)
		b.expect(0, "before the address is proved")
		if i, r, c, _, _ := w.ears.take(); i != 1 || r != 0 || c != 1 {
			t.Errorf("%d initiations, %d responses, %d cookies; want 1 0 1", i, r, c)
		}
		passes(6 * time.Second)
		b.expect(1, "within 6 s")
		if i, r, c, _, _ := w.ears.take(); i != 1 || r != 1 || c != 0 {
			t.Errorf("%d initiations, %d responses, %d cookies; want 1 1 0", i, r, c)
		}
		if n := a.tun.Status().Peers[0].Handshakes.CookiesReceived; n != 1 {
			t.Errorf("%d cookies counted", n)
		}
	})
}

// A responder is asked as well when it is the initiator that is under load.
func TestLoad_responderProvesItsAddressToAnInitiatorUnderLoad(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.load(w, time.Minute)
		a.sends(b, 10)
		b.expect(0, "before the address is proved")
		if i, r, c, _, _ := w.ears.take(); i != 1 || r != 1 || c != 1 {
			t.Errorf("%d initiations, %d responses, %d cookies; want 1 1 1", i, r, c)
		}
		passes(6 * time.Second)
		b.expect(1, "within 6 s")
	})
}

// A recorded initiation, sent a thousand times, fills no queue and gets no
// answer.
func TestLoad_copiesOfAnInitiationAreNoLoad(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		rec := w.record()
		a.sends(b, 10)
		msg := rec.lastOf(t, wire.TypeInitiation).Payload
		s := w.stranger("198.51.100.1:4000")
		longest := 0
		b.hold(func() {
			for range 1000 {
				s.sends(b.addr, msg)
			}
			b.settled("all copies arrived", 1000, func() uint64 {
				longest = max(longest, b.tun.handshakes.Waiting())
				return b.dropped(drop.DuplicateInit)
			})
		})
		synctest.Wait()
		if longest != 0 || b.tun.Status().UnderLoad {
			t.Errorf("%d copies in the queue, under load %v", longest, b.tun.Status().UnderLoad)
		}
		if n := len(s.got()); n != 0 {
			t.Errorf("%d answers", n)
		}
		if got := b.endpointOf(a); got != a.addr {
			t.Errorf("the copies moved the peer to %v", got)
		}
		passes(181 * time.Second) // forgotten by then: the timestamp refuses it
		s.sends(b.addr, msg)
		synctest.Wait()
		if n := len(s.got()); n != 0 || b.endpointOf(a) != a.addr {
			t.Errorf("%d answers, endpoint %v", n, b.endpointOf(a))
		}
	})
}

// Under load too: one initiation takes one place in the queue at a time, whoever sends copies of
// it.
func TestLoad_copiesDoNotKeepLoadAlive(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		rec := w.record()
		rec.hold(fromAddr(a.addr))
		a.sends(b, 10)
		msg := rec.lastOf(t, wire.TypeInitiation).Payload
		s := w.stranger("198.51.100.1:4000")
		b.load(w, time.Second)
		for range 500 {
			s.sends(b.addr, msg)
		}
		passes(time.Second + time.Millisecond)
		if b.tun.Status().UnderLoad {
			t.Error("copies of one initiation kept the server under load")
		}
		for _, answer := range s.got() {
			if len(answer) != wire.CookieReplySize {
				t.Errorf("answer of %d bytes", len(answer))
			}
		}
	})
}

// What has no valid mac1, or answers nothing of ours, never takes a place in the queue.
func TestLoad_garbageNeverEntersTheQueue(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		s := w.stranger("198.51.100.1:4000")
		sizes := map[byte]int{
			wire.TypeInitiation: wire.InitiationSize, wire.TypeResponse: wire.ResponseSize, wire.TypeCookieReply: wire.CookieReplySize,
		}
		sent := uint64(0)
		b.hold(func() {
			for kind, size := range sizes {
				for range 600 {
					msg := make([]byte, size)
					rand.Read(msg)
					binary.LittleEndian.PutUint32(msg, uint32(kind))
					s.sends(b.addr, msg)
					sent++
				}
			}
			b.settled("all arrived", sent, func() uint64 { return b.dropped(drop.BadMAC1) + b.dropped(drop.UnknownIndex) })
			if n := b.tun.handshakes.Waiting(); n != 0 {
				t.Errorf("%d messages in the queue", n)
			}
		})
		synctest.Wait()
		if n := len(s.got()); n != 0 || b.tun.Status().UnderLoad {
			t.Errorf("%d answers, under load %v", n, b.tun.Status().UnderLoad)
		}
	})
}

// A mistake that other implementations made: the endpoint moved by a cookie reply.
func TestLoad_cookieReplyDoesNotMoveTheEndpoint(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		b.load(w, time.Second)
		rec := w.record()
		rec.hold(fromAddr(b.addr))
		a.sends(b, 10)
		cookie := rec.lastOf(t, wire.TypeCookieReply)
		s := w.stranger("198.51.100.1:4000")
		s.sends(a.addr, cookie.Payload)
		synctest.Wait()
		if n := a.tun.Status().Peers[0].Handshakes.CookiesReceived; n != 1 {
			t.Errorf("%d cookies taken, want 1", n)
		}
		if got := a.endpointOf(b); got != b.addr {
			t.Errorf("endpoint = %v, want %v", got, b.addr)
		}
	})
}

// A mistake that other implementations made: a cookie that is good for every port of an address.
func TestLoad_cookieIsGoodForOnePort(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		key := newKey(t)
		here, there := w.stranger("198.51.100.1:4000"), w.stranger("198.51.100.1:4001")
		if err := b.tun.Configure(Change{Peers: []PeerChange{{PublicKey: key.Public()}}}); err != nil {
			t.Fatal(err)
		}
		b.load(w, time.Minute)
		h := newHand(key, b.key.Public())
		for _, c := range []struct {
			from *stranger
			want int
		}{{here, wire.CookieReplySize}, {there, wire.CookieReplySize}, {here, wire.ResponseSize}} {
			time.Sleep(100 * time.Millisecond)
			msg, _ := h.initiation(w, time.Now())
			c.from.sends(b.addr, msg)
			synctest.Wait()
			got := c.from.got()
			if len(got) != 1 || len(got[0]) != c.want {
				t.Fatalf("from %v: %d answers, want one of %d bytes", c.from.addr, len(got), c.want)
			}
			if c.from == here && c.want == wire.CookieReplySize {
				if err := h.macs.ConsumeReply(got[0], w.clock.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// Twenty a second and five at once from one source that has proved its address; another source is
// not touched.
func TestLoad_oneSourceIsLimitedAndOthersAreNot(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		b.load(w, time.Minute)
		six := netip.MustParseAddrPort("[2001:db8:b::1]:51820")
		b.conn.Move(b.addr, six)
		accepted := func(addr string, n int) (worked uint64) {
			s, to := w.stranger(addr), b.addr
			if s.addr.Addr().Is6() {
				to = six
			}
			// Unknown: what is let through fails, which can be counted.
			h := newHand(newKey(t), b.key.Public())
			msg, _ := h.initiation(w, time.Now())
			s.sends(to, msg)
			synctest.Wait()
			if err := h.macs.ConsumeReply(s.got()[0], w.clock.Now()); err != nil {
				t.Fatal(err)
			}
			before := b.dropped(drop.HandshakeFailed)
			for range n {
				msg, _ := h.initiation(w, time.Now())
				s.sends(to, msg)
			}
			synctest.Wait()
			return b.dropped(drop.HandshakeFailed) - before
		}
		if n := accepted("198.51.100.1:4000", 30); n != burst {
			t.Errorf("%d of 30 handshakes at once were worked on, want %d", n, burst)
		}
		if n := accepted("198.51.100.2:4000", 3); n != 3 {
			t.Errorf("%d of 3 of another source, want all", n)
		}
		for i := range 8 { // eight hosts of one /64 are one source
			addr := netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)), 4000)
			want := uint64(1)
			if i >= burst {
				want = 0
			}
			if n := accepted(addr.String(), 1); n != want {
				t.Errorf("host %d of a /64: %d, want %d", i, n, want)
			}
		}
	})
}

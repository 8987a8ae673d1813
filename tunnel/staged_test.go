package tunnel

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/staged"
	"tund/tunnel/udp/udptest"
)

// upTo returns from, from+1, … below to.
func upTo(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func TestStage_keepsTheNewest128InOrder(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		rec := w.record()
		rec.hold(everything)
		for i := range 200 {
			a.queue.Inject(a.numbered(b, i))
			synctest.Wait()
		}
		if n := a.dropped(drop.StagedFull); n != 200-staged.Max {
			t.Errorf("%d packets counted as pushed out, want %d", n, 200-staged.Max)
		}
		if n := a.tun.Status().Peers[0].Staged; n != staged.Max {
			t.Errorf("%d packets wait, want %d", n, staged.Max)
		}
		rec.hold(nil)
		passes(6 * time.Second)
		if got := b.numbers(); !slices.Equal(got, upTo(200-staged.Max, 200)) {
			t.Errorf("got %v", got)
		}
		if n := a.tun.env.Waiting.Bytes(); n != 0 {
			t.Errorf("%d bytes are still accounted for as waiting", n)
		}
	})
}

// Packets of a flow stay in order while the session comes up under it.
func TestStage_laterPacketsStayBehind(t *testing.T) {
	for round := range 25 {
		inBubble(t, func(w *world) {
			a, b := w.pair()
			w.net.Set(udptest.Conditions{Latency: time.Millisecond})
			for i := range 120 {
				a.queue.Inject(a.numbered(b, i))
				if i%3 == round%3 {
					time.Sleep(100 * time.Microsecond)
				}
			}
			passes(time.Second)
			if got := b.numbers(); !slices.Equal(got, upTo(0, 120)) {
				t.Errorf("round %d: %v", round, got)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// What is staged in the moment in which the session comes up is not forgotten there.
func TestStage_packetThatMissesTheSessionIsSent(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		p := a.peerOf(b)
		// As by a lane that found no session a moment ago.
		a.tun.env.Stage(p, a.numbered(b, 7), w.clock.Now())
		synctest.Wait()
		if got := b.numbers(); !slices.Equal(got, []int{7}) {
			t.Errorf("got %v at once, want the packet", got)
		}
		if i, _, _, _, _ := w.ears.take(); i != 0 {
			t.Errorf("%d handshakes although there is a session", i)
		}
	})
}

// exhaust leaves n messages in e's current session with other.
func (e *end) exhaust(other *end, n uint64) {
	e.t.Helper()
	s := e.peerOf(other).Current().Session
	for left := uint64(session.RejectAfterMessages) - n - s.Sent(); left > 0; {
		take := min(left, math.MaxInt64)
		if _, ok := s.Reserve(int(take)); !ok {
			e.t.Fatal("cannot use up the session")
		}
		left -= take
	}
}

// A mistake that other implementations made: Reject-After-Messages is not enforced.
func TestSession_sendsExactlyAsManyMessagesAsItMay(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(12 * time.Second)
		a.exhaust(b, 4)
		rec := w.record()
		rec.hold(isHandshake)
		for i := range 10 {
			a.queue.Inject(a.numbered(b, i))
			synctest.Wait()
		}
		if got := b.numbers(); !slices.Equal(got, upTo(0, 4)) {
			t.Errorf("got %v, want four packets", got)
		}
		for _, d := range rec.take(wire.TypeTransport) {
			if c := wire.TransportCounter(d.Payload); c >= session.RejectAfterMessages {
				t.Errorf("counter %d was used", c)
			}
		}
		rec.hold(nil)
		passes(6 * time.Second)
		if got := b.numbers(); !slices.Equal(got, upTo(4, 10)) {
			t.Errorf("under the new session: %v, want the other six in order", got)
		}
	})
}

// A superpacket for which too few counters are left waits as a whole, and nothing overtakes it.
func TestSession_superpacketAtTheLimitKeepsItsOrder(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(10 * time.Second)
		a.exhaust(b, 4)
		rec := w.record()
		rec.hold(isHandshake)
		a.queue.InjectFrame(udpSuper(a.inner, b.inner, 10, 100))
		synctest.Wait()
		a.queue.Inject(a.numbered(b, 1))
		synctest.Wait()
		if n := b.got(); n != 4 {
			t.Errorf("%d packets, want the four that are left", n)
		}
		rec.hold(nil)
		passes(6 * time.Second)
		last := -1
		for i := 0; ; i++ {
			select {
			case f := <-b.queue.Written():
				if f[10+9] == 253 {
					last = i
				}
				continue
			default:
			}
			if i != 7 || last != 6 {
				t.Errorf("%d packets and the later one at place %d; want 7 and 6", i, last)
			}
			return
		}
	})
}

// RekeyAfterMessages: both sides renew, the responder as well.
func TestSession_isRenewedAfterManyMessages(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(10 * time.Second)
		for _, c := range []struct{ from, to *end }{{b, a}, {a, b}} {
			s := c.from.peerOf(c.to).Current()
			c.from.exhaust(c.to, session.RejectAfterMessages-session.RekeyAfterMessages)
			c.from.sends(c.to, 10) // the last that needs no new session
			if i, _, _, _, _ := w.ears.take(); i != 0 {
				t.Errorf("%d handshakes before the limit", i)
			}
			c.from.sends(c.to, 10)
			if i, _, _, _, _ := w.ears.take(); i != 1 || c.from.peerOf(c.to).Current() == s {
				t.Errorf("%d handshakes at the limit, want 1", i)
			}
			c.to.expect(2, "none lost")
			passes(10 * time.Second)
			w.ears.take()
		}
	})
}

// A mistake that other implementations made: a counter that is not 64 bits wide.
func TestSession_countersPassThirtyTwoBits(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		if _, ok := a.peerOf(b).Current().Session.Reserve(1<<32 - 4); !ok {
			t.Fatal("cannot reserve")
		}
		rec := w.record()
		for i := range 8 {
			a.queue.Inject(a.numbered(b, i))
			synctest.Wait()
		}
		if got := b.numbers(); !slices.Equal(got, upTo(0, 8)) {
			t.Errorf("got %v", got)
		}
		sent := rec.take(wire.TypeTransport)
		if last := wire.TransportCounter(sent[len(sent)-1].Payload); last <= 1<<32 {
			t.Errorf("last counter %#x, want more than 32 bits", last)
		}
		s := w.stranger("198.51.100.1:4000")
		for _, d := range sent {
			s.sends(b.addr, d.Payload)
		}
		synctest.Wait()
		b.expect(0, "replays across 2^32")
	})
}

// Limits on receive: a message at or past RejectAfterMessages is refused although its tag is right.
func TestSession_refusesCountersAtTheLimit(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		s := w.stranger("198.51.100.1:4000")
		for _, counter := range []uint64{session.RejectAfterMessages, math.MaxUint64, session.RejectAfterMessages - 1} {
			s.sends(b.addr, a.sealed(b, counter, packet(a.inner, b.inner, 12)))
		}
		synctest.Wait()
		b.expect(1, "only the last one is below the limit")
		if n := b.dropped(drop.Expired); n != 2 {
			t.Errorf("%d counted as expired, want 2", n)
		}
	})
}

// sealed makes a transport message of e's current session under a counter of the caller's choice.
func (e *end) sealed(other *end, counter uint64, plaintext []byte) []byte {
	e.t.Helper()
	out := make([]byte, len(plaintext)+wire.TransportOverhead)
	n := e.peerOf(other).Current().Session.Seal(out, counter, plaintext, new(session.Scratch))
	return out[:n]
}

package tunnel

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/peer"
	"tund/tunnel/staged"
	"tund/tunnel/timers"
	"tund/tunnel/udp/udptest"
)

// times notes when messages were sent, by sender.
type times struct {
	start time.Time

	mu        sync.Mutex // guards what follows
	initiated map[netip.AddrPort][]time.Duration
	empty     map[netip.AddrPort][]time.Duration // keepalives
	lost      func(udptest.Datagram) bool
}

func (w *world) times() *times {
	x := &times{
		start: time.Now(), lost: nothing,
		initiated: map[netip.AddrPort][]time.Duration{}, empty: map[netip.AddrPort][]time.Duration{},
	}
	w.net.Filter(func(d udptest.Datagram) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		at := time.Since(x.start)
		if kind, _ := wire.Kind(d.Payload); kind == wire.TypeInitiation {
			x.initiated[d.From] = append(x.initiated[d.From], at)
		}
		if len(d.Payload) == wire.MinTransportSize {
			x.empty[d.From] = append(x.empty[d.From], at)
		}
		if x.lost(d) {
			return udptest.Lost
		}
		return nil
	})
	return x
}

// lose chooses what is lost from now on.
func (x *times) lose(f func(udptest.Datagram) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lost = f
}

// nothing loses nothing.
func nothing(udptest.Datagram) bool { return false }

// initiations returns when e sent initiations.
func (x *times) initiations(e *end) []time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.initiated[e.addr])
}

// keepalives returns when e sent empty messages.
func (x *times) keepalives(e *end) []time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.empty[e.addr])
}

func TestTunnel_onlyTheInitiatorRenewsAndAt120Seconds(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		seen := w.times()
		for range 130 * 4 {
			a.sends(b, 10)
			b.sends(a, 10)
			time.Sleep(250 * time.Millisecond)
		}
		got := seen.initiations(a)
		if len(got) != 2 || got[0] != 0 || got[1] < 120*time.Second || got[1] > 120250*time.Millisecond {
			t.Errorf("the initiator began handshakes at %v, want 0 and 120 s", got)
		}
		if got := seen.initiations(b); len(got) != 0 {
			t.Errorf("the responder began handshakes at %v", got)
		}
	})
}

func TestTunnel_receivingRenewsAt165Seconds(t *testing.T) {
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{164 * time.Second, 1}, {166 * time.Second, 2}} {
		inBubble(t, func(w *world) {
			a, b := w.connected()
			seen := w.times()
			passes(c.at)
			b.sends(a, 10)
			a.expect(1, "late data")
			if got := len(seen.initiations(a)) + 1; got != c.want {
				t.Errorf("data at %v: %d handshakes, want %d", c.at, got, c.want)
			}
		})
	}
}

// Data that arrives late under the session before the current one says nothing about the age of the
// current one.
func TestTunnel_lateDataOfAnOldSessionDoesNotRenew(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(110 * time.Second)
		rec := w.record()
		rec.hold(fromAddr(b.addr))
		b.sends(a, 10)
		late := rec.lastOf(t, wire.TypeTransport)
		rec.hold(nil)
		passes(40 * time.Second)
		a.sends(b, 10) // 150 s: asks for a new session
		b.expect(1, "with the old session")
		passes(16 * time.Second)
		if i, _, _, _, _ := w.ears.take(); i != 1 {
			t.Fatalf("%d handshakes at 150 s", i)
		}
		s := w.stranger("198.51.100.1:4000")
		s.sends(a.addr, late.Payload)
		synctest.Wait()
		if i, _, _, _, _ := w.ears.take(); i != 0 {
			t.Errorf("%d handshakes for data of the session before", i)
		}
	})
}

// Keys are gone 540 s after the newest session was made: the session refuses, its index is free,
// and nothing holds it.
func TestTunnel_keysAreZeroedAfter540Seconds(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		pa, pb := a.peerOf(b), b.peerOf(a)
		sa, sb := pa.Current().Session, pb.Current().Session
		passes(539 * time.Second)
		if pa.Current() == nil || pb.Current() == nil {
			t.Error("keys were zeroed too early")
		}
		passes(2 * time.Second)
		for _, e := range []*end{a, b} {
			if n := e.tun.env.Index.Len(); n != 0 || e.tun.peers.All()[0].Current() != nil {
				t.Errorf("%d keys are still there after 541 s", n)
			}
		}
		if _, ok := sa.Reserve(1); ok {
			t.Error("the initiator's session still has keys")
		}
		if _, ok := sb.Reserve(1); ok {
			t.Error("the responder's session still has keys")
		}
		if _, ok := a.tun.env.Index.Get(sa.LocalIndex()); ok {
			t.Error("its index is still taken")
		}
	})
}

// A session that was replaced is not kept alive by a loop that happened to use it last.
func TestTunnel_replacedSessionIsLetGo(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		var old []weak.Pointer[peer.Keypair]
		for _, p := range []*peer.Peer{a.peerOf(b), b.peerOf(a)} {
			old = append(old, weak.Make(p.Current()))
		}
		for range 2 { // twice, so that the first is not the previous one any more
			passes(130 * time.Second)
			// By the timers: the lanes send nothing.
			a.tun.env.WantKeepalive(a.peerOf(b), w.clock.Now())
			passes(time.Second)
		}
		for i, s := range old {
			collect()
			if s.Value() != nil {
				t.Errorf("side %d: the keys of a replaced session are still in memory", i)
			}
		}
	})
}

func TestTunnel_handshakeIsRetriedFor90SecondsAndGivenUp(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		seen := w.times()
		seen.lose(everything)
		for range 3 {
			a.sends(b, 10)
		}
		passes(10 * time.Minute)
		got := seen.initiations(a)
		if len(got) != 1+timers.MaxHandshakeAttempts {
			t.Fatalf("%d initiations, want %d", len(got), 1+timers.MaxHandshakeAttempts)
		}
		jitters := map[time.Duration]bool{}
		for i, at := range got[1:] {
			gap := at - got[i]
			if gap < timers.RekeyTimeout || gap >= timers.RekeyTimeout+timers.RekeyTimeoutJitterMax {
				t.Errorf("gap of %v between two initiations", gap)
			}
			jitters[gap] = true
		}
		if len(jitters) < 5 { // mistake 8
			t.Errorf("only %d different gaps: there is no jitter", len(jitters))
		}
		if last := got[len(got)-1]; last < timers.RekeyAttemptTime || last > timers.RekeyAttemptTime+6*time.Second {
			t.Errorf("last attempt at %v", last)
		}
		if n := a.dropped(drop.StagedTimeout); n != 3 {
			t.Errorf("%d packets counted as timed out, want 3", n)
		}
		if s := a.tun.Status().Peers[0]; s.State != StateDown || s.Staged != 0 || s.LastError == "" {
			t.Errorf("state %s, %d staged, error %q", s.State, s.Staged, s.LastError)
		}
		seen.lose(nothing)
		a.sends(b, 10)
		b.expect(1, "after a new packet")
	})
}

// As in the kernel, somebody who goes on sending is not given up.
func TestTunnel_handshakeGoesOnWhilePacketsCome(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		seen := w.times()
		seen.lose(everything)
		for range 200 {
			a.sends(b, 10)
			passes(time.Second)
		}
		if n := len(seen.initiations(a)); n < 36 || n > 40 {
			t.Errorf("%d initiations in 200 s, want one each 5 s", n)
		}
		if got := a.tun.Status().Peers[0].Staged; got != staged.Max {
			t.Errorf("%d packets wait, want %d", got, staged.Max)
		}
	})
}

// A mistake that other implementations made: the handshake after unanswered data, for which a
// responder has jitter as well.
func TestTunnel_unansweredDataStartsAHandshakeAfter15SecondsWithJitter(t *testing.T) {
	differ := map[time.Duration]bool{}
	for range 12 {
		inBubble(t, func(w *world) {
			a, b := w.connected()
			passes(20 * time.Second)
			seen := w.times()
			seen.lose(everything)
			begin := time.Since(seen.start)
			a.sends(b, 10)
			b.sends(a, 10)
			passes(18 * time.Second)
			for _, e := range []*end{a, b} {
				got := seen.initiations(e)
				if len(got) != 1 {
					t.Fatalf("%d initiations", len(got))
				}
				after := got[0] - begin
				if after < timers.UnansweredAfter || after >= timers.UnansweredAfter+timers.RekeyTimeoutJitterMax {
					t.Errorf("handshake %v after unanswered data", after)
				}
				if e == b {
					differ[after] = true
				}
			}
		})
	}
	if len(differ) < 3 {
		t.Errorf("a responder always waits %v: there is no jitter", slices.Sorted(keysOf(differ)))
	}
}

func keysOf[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// A mistake that other implementations made: a response that is thrown away because it took more
// than 250 ms.
func TestTunnel_slowResponsesCount(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		w.net.Set(udptest.Conditions{Latency: 2200 * time.Millisecond})
		a.queue.Inject(packet(a.inner, b.inner, 10))
		passes(8 * time.Second)
		b.expect(1, "over a path of 4.4 s")
		if i, r, _, _, _ := w.ears.take(); i != 1 || r != 1 {
			t.Errorf("%d initiations, %d responses; want one each", i, r)
		}
	})
}

// A responder may not send before it has heard from the initiator under the new session (whitepaper
// §5.4.4).
func TestTunnel_responderIsSilentBeforeConfirmation(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		rec := w.record()
		rec.hold(func(d udptest.Datagram) bool {
			kind, _ := wire.Kind(d.Payload)
			return d.From == a.addr && kind == wire.TypeTransport || d.From == b.addr && kind == wire.TypeInitiation
		})
		a.sends(b, 10)
		rec.take(0)
		for range 5 {
			b.sends(a, 10)
			passes(100 * time.Millisecond)
		}
		for _, d := range rec.take(wire.TypeTransport) {
			if d.From == b.addr {
				t.Fatal("the responder sent data before it was confirmed")
			}
		}
		rec.hold(nil)
		a.sends(b, 10)
		if b.got() == 0 {
			t.Error("nothing arrives after the confirmation")
		}
		a.expect(5, "what waited for the confirmation")
	})
}

// A mistake that other implementations made: a clock that is not monotonic. Going back stops
// nothing and breaks nothing.
func TestTunnel_clockThatGoesBackIsSurvived(t *testing.T) {
	inBubble(t, func(w *world) {
		back := &steppedClock{bubbleClock: w.clock}
		a, b := w.end(), w.end()
		for _, e := range []*end{a, b} {
			e.tun.Close()
			w.startWith(e, back)
		}
		a.knows(b, true)
		b.knows(a, true)
		for i := range 200 {
			back.step(time.Duration(i%7-3) * 11 * time.Second)
			a.queue.Inject(packet(a.inner, b.inner, 10))
			b.queue.Inject(packet(b.inner, a.inner, 10))
			passes(time.Second)
		}
		if a.got() < 100 || b.got() < 100 {
			t.Error("nearly nothing arrives when the clock jumps")
		}
		if a.dropped(drop.Internal)+b.dropped(drop.Internal) != 0 {
			t.Error("something panicked")
		}
	})
}

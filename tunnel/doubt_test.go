package tunnel

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tund/tunnel/extension"
	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

// fault is a network that loses, while it is on, what lost says.
type fault struct{ on atomic.Bool }

func (w *world) fault(lost func(udptest.Datagram) bool) *fault {
	f := new(fault)
	w.net.Filter(func(d udptest.Datagram) error {
		if f.on.Load() && lost(d) {
			return udptest.Lost
		}
		return nil
	})
	return f
}

// saysWithin fails unless both ends say words about each other within a time, while a pings b, and
// are silent again as soon after the fault. "" is for an end that cannot know.
func (f *fault) saysWithin(t *testing.T, limit time.Duration, a, b *end, ofA, ofB string) {
	t.Helper()
	within := func(done func() bool) bool {
		for began := time.Now(); time.Since(began) < limit; a.pingsOf(b, 80, 500*time.Millisecond) {
			if done() {
				return true
			}
		}
		return false
	}
	a.pingsOf(b, 80, 5*time.Second)
	f.on.Store(true)
	if !within(func() bool {
		return strings.Contains(a.told().LastError, ofA) && strings.Contains(b.told().LastError, ofB)
	}) {
		t.Errorf("not named after %v: %q and %q", limit, a.told().LastError, b.told().LastError)
	}
	f.on.Store(false)
	if !within(func() bool {
		x, y := a.told(), b.told()
		return x.LastError == "" && y.LastError == "" && x.State == StateUp && y.State == StateUp
	}) {
		t.Errorf("still named %v after the fault: %s %q and %s %q", limit, a.told().State, a.told().LastError, b.told().State, b.told().LastError)
	}
}

const namedWithin = 15 * time.Second

// Without liveness, a peer that is tund and gives no answer to what is sent to it is asked.
func TestDoubt_deadPeerIsDownSoon(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		f := w.fault(func(udptest.Datagram) bool { return true })
		a.pings(b, 5*time.Second)
		f.on.Store(true)
		if took := a.within(namedWithin, b, func() bool { return a.told().State == StateDown }); took < 10*time.Second || took > 13*time.Second {
			t.Errorf("down after %v, want 12 s: %q", took, a.told().LastError)
		}
	})
}

// An end that hears nothing tells the other, whose sends are lost: both know.
func TestDoubt_theEndThatIsNotHeardKnows(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		f := w.fault(func(d udptest.Datagram) bool { return d.To == a.addr })
		f.saysWithin(t, namedWithin, a, b, "no answer from "+b.addr.String(), "nothing comes to it from this host")
	})
}

// A path that loses everything but the smallest datagrams is not up because of these, with and
// without liveness.
func TestDoubt_pathThatCarriesSmallDatagramsOnly(t *testing.T) {
	for _, every := range []time.Duration{0, time.Second} {
		inBubble(t, func(w *world) {
			a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
			keepalive := 5 * time.Second
			for x, y := range map[*end]*end{a: b, b: a} {
				x.knows(y, true, alive(every), func(c *PeerChange) { c.Keepalive = &keepalive })
			}
			f := w.fault(func(d udptest.Datagram) bool { return len(d.Payload)+28 > 100 })
			const words = "160 bytes are lost"
			f.saysWithin(t, namedWithin, a, b, words, "")
		})
	}
}

// The same for a path that carries everything but the datagrams of the usual sizes.
func TestDoubt_pathThatLosesLargeDatagrams(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		f := w.fault(func(d udptest.Datagram) bool { return len(d.Payload)+28 > 1000 })
		a.pings(b, 5*time.Second)
		f.on.Store(true)
		loaded := func(f func() bool) time.Duration {
			return a.within(namedWithin, b, func() bool { a.sends(b, 1300); b.sends(a, 1300); return f() })
		}
		says := func(e *end) bool {
			return strings.Contains(e.told().LastError, "IP packets of 1280 bytes do not arrive")
		}
		if took := loaded(func() bool { return says(a) && says(b) }); took >= namedWithin {
			t.Errorf("after %v: %q and %q", took, a.told().LastError, b.told().LastError)
		}
		if s := a.told(); s.State != StateUp {
			t.Errorf("small packets pass: %s", s.State)
		}
		f.on.Store(false)
		if took := loaded(func() bool { return !says(a) && !says(b) }); took >= namedWithin {
			t.Errorf("%v after the fault: %q and %q", took, a.told().LastError, b.told().LastError)
		}
	})
}

// What needs no answer is no fault: packets that go one way cost few questions, and a path that
// loses three datagrams in ten each way is up.
func TestDoubt_oneWayTrafficIsNoFault(t *testing.T) {
	for _, loss := range []float64{0, 0.3} {
		inBubble(t, func(w *world) {
			a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
			a.pings(b, 5*time.Second)
			w.net.Set(udptest.Conditions{Loss: loss, Latency: 10 * time.Millisecond})
			sent := b.told().TxPackets
			for n := range 1200 {
				a.sends(b, 100)
				passes(100 * time.Millisecond)
				if s := a.told(); s.State != StateUp {
					t.Fatalf("loss %v: %s after %d packets: %q", loss, s.State, n, s.LastError)
				}
			}
			if n := b.told().TxPackets - sent; loss == 0 && n > 50 {
				t.Errorf("%d datagrams in answer to those of two minutes", n)
			}
		})
	}
}

// A peer that says that it hears nothing, and answers all the same, is up: nobody can make another
// peer of this host down, and not even itself by words alone.
func TestDoubt_wordsAloneAreNotBelieved(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
		a.pings(b, 5*time.Second)
		for range 20 {
			a.tun.env.Control(a.peerOf(b).Current(), extension.AppendMessage(nil, extension.TypeUnheard, nil), a.clock.Now())
			passes(time.Second)
			if s := a.told(); s.State != StateUp || s.LastError != "" {
				t.Fatalf("%s: %q", s.State, s.LastError)
			}
		}
	})
}

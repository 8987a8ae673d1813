package tunnel

import (
	"strings"
	"testing"
	"time"

	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

// watchEachOther makes two tunds that watch each other by liveness.
func (w *world) watchEachOther(every time.Duration) (a, b *end) {
	a, b = w.tundPair(peer.ExtensionsAuto, peer.ExtensionsAuto)
	a.knows(b, true, alive(every))
	b.knows(a, true, alive(every))
	passes(5 * time.Second)
	return a, b
}

// saysLoss reports whether status names the loss on the path to the only peer.
func (e *end) saysLoss() bool {
	return strings.Contains(e.tun.Status().Peers[0].LastError, "are lost on the path")
}

// until returns after how many seconds what is to happen has happened; at most limit.
func until(limit int, happened func() bool) int {
	for n := range limit {
		if happened() {
			return n
		}
		passes(time.Second)
	}
	return limit
}

func TestLoss_isNamedAtBothEndsAndForgotten(t *testing.T) {
	for _, loss := range []float64{0.15, 0.3, 0.5} {
		inBubble(t, func(w *world) {
			a, b := w.watchEachOther(time.Second)
			path := udptest.Conditions{Latency: 10 * time.Millisecond, Loss: loss}
			w.net.Set(path)
			took := until(20, func() bool { return a.saysLoss() && b.saysLoss() })
			if took > 15 {
				t.Errorf("loss of %.0f %% is not named at both ends after 15 s: %q, %q", 100*loss,
					a.tun.Status().Peers[0].LastError, b.tun.Status().Peers[0].LastError)
			}
			passes(2 * time.Minute)
			if s := a.tun.Status().Peers[0]; s.State != StateUp || !a.saysLoss() {
				t.Errorf("after two minutes with a loss of %.0f %%: %s, %q", 100*loss, s.State, s.LastError)
			}
			path.Loss = 0
			w.net.Set(path)
			over := until(20, func() bool { return !a.saysLoss() && !b.saysLoss() })
			if over > 15 {
				t.Errorf("a mended path is still said to lose: %q", a.tun.Status().Peers[0].LastError)
			}
			t.Logf("loss of %.0f %%: named after %d s, over after %d s", 100*loss, took, over)
		})
	}
}

// Only what lasts is named: not an interruption, not answers that are late, not a datagram now and
// then.
func TestLoss_isNotNamedWithoutReason(t *testing.T) {
	for name, happens := range map[string]func(*world){
		"nothing":       func(*world) {},
		"interruptions": func(w *world) { w.interrupt(2 * time.Second); passes(28 * time.Second) },
		"late answers":  func(w *world) { w.net.Set(udptest.Conditions{Latency: 700 * time.Millisecond}) },
		"queues that fill and empty": func(w *world) {
			w.net.Set(udptest.Conditions{Latency: 400 * time.Millisecond})
			passes(3 * time.Second)
			w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond})
		},
		"one in two hundred": func(w *world) { w.net.Set(udptest.Conditions{Latency: 5 * time.Millisecond, Loss: 0.005}) },
	} {
		inBubble(t, func(w *world) {
			a, b := w.watchEachOther(time.Second)
			for n := range 100 {
				happens(w)
				passes(3 * time.Second)
				if a.saysLoss() || b.saysLoss() {
					t.Fatalf("%s, round %d: %q, %q", name, n, a.tun.Status().Peers[0].LastError, b.tun.Status().Peers[0].LastError)
				}
			}
		})
	}
}

// interrupt loses everything for a while.
func (w *world) interrupt(d time.Duration) {
	w.net.Set(udptest.Conditions{Loss: 1})
	passes(d)
	w.net.Set(udptest.Conditions{})
}

// The requests that follow a lost one are not taken for as many intervals without an answer.
func TestLoss_doesNotHastenTheEnd(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.watchEachOther(2 * time.Second)
		w.interrupt(5 * time.Second)
		if !a.tun.Alive(b.key.Public()) {
			t.Errorf("down after 5 s of three intervals of 2 s: %q", a.tun.Status().Peers[0].LastError)
		}
	})
}

func TestLoss_endsWithLiveness(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.watchEachOther(time.Second)
		w.net.Set(udptest.Conditions{Loss: 0.4})
		until(20, a.saysLoss)
		a.knows(b, true, alive(0))
		passes(2 * time.Second)
		if a.saysLoss() {
			t.Error("the loss is named although the peer is not watched any longer")
		}
	})
}

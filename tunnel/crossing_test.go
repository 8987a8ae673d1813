package tunnel

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/tunnel/udp/udptest"
)

// Two sides that begin at once both have a session of their own to send with. That state must not
// last: their renewals would cross as well, each time with packets on the way under sessions that
// the other side has just let go.
func TestTunnel_handshakesThatCrossLoseNothing(t *testing.T) {
	for _, latency := range []time.Duration{time.Millisecond, 15 * time.Millisecond, 120 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			inBubble(t, func(w *world) {
				a, b := w.end(), w.end()
				a.knows(b, true)
				b.knows(a, true)
				w.net.Set(udptest.Conditions{Latency: latency})
				const perSecond, seconds = 50, 400
				toA, toB := 0, 0
				for range perSecond * seconds {
					a.queue.Inject(packet(a.inner, b.inner, 56))
					b.queue.Inject(packet(b.inner, a.inner, 56))
					time.Sleep(time.Second / perSecond)
					synctest.Wait()
					toA, toB = toA+a.got(), toB+b.got()
				}
				time.Sleep(time.Second)
				synctest.Wait()
				toA, toB = toA+a.got(), toB+b.got()
				if want := perSecond * seconds; toA != want || toB != want {
					t.Errorf("%d and %d of %d packets arrived; drops %v and %v", toA, toB, want, a.tun.drops.Snapshot(), b.tun.drops.Snapshot())
				}
				if i, r, _, _, _ := w.ears.take(); i > 5 || r > 5 {
					t.Errorf("%d initiations and %d responses, want 2 at first and one for each renewal", i, r)
				}
			})
		})
	}
}

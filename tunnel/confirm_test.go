package tunnel

import (
	"testing"
	"testing/synctest"
	"time"
)

// A host answers the first packet of a burst while the rest of the burst is still being opened. The
// session that the burst came in is confirmed by then: the answer goes out in it, and nobody begins
// another handshake.
func TestTunnel_answerToTheFirstPacketOfABurstUsesItsSession(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		b.queue.Refuse(func([]byte) error {
			b.queue.Inject(packet(b.inner, a.inner, 10))
			time.Sleep(time.Millisecond) // everybody else goes on meanwhile
			return nil
		})
		for range 5 { // staged, and sent as one train when the session is there
			a.queue.Inject(packet(a.inner, b.inner, 10))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		a.expect(5, "answers")
		if i, r, _, _, _ := w.ears.take(); i != 1 || r != 1 {
			t.Errorf("%d initiations, %d responses; want 1, 1", i, r)
		}
	})
}

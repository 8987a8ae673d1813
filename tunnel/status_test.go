package tunnel

import (
	"testing"
	"testing/synctest"

	"tund/crypto/keys"
)

// What is dropped of a peer is counted for that peer, at layer 3 as well, and by one counter only.
func TestStatus_dropsByPeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		c := w.end()
		b.knows(c, false)
		for range 3 {
			a.queue.Inject(packet(c.inner, b.inner, 10)) // c's source
		}
		b.queue.Inject(packet(b.inner, c.inner, 10)) // nobody knows where c is
		synctest.Wait()
		drops := map[keys.PublicKey]map[string]uint64{}
		for _, p := range b.tun.Status().Peers {
			drops[p.PublicKey] = p.Drops
		}
		if got := drops[a.key.Public()]; got["foreign-source"] != 3 || len(got) != 1 {
			t.Errorf("drops of the sender: %v, want 3 for their source", got)
		}
		if got := drops[c.key.Public()]; got["no-endpoint"] != 1 || len(got) != 1 {
			t.Errorf("drops of a peer without an endpoint: %v, want 1", got)
		}
	})
}

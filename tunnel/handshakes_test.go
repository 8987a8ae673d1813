package tunnel

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/internal/drop"
)

// An initiation is good once: its timestamp is greater than all before it (whitepaper §5.1).
func TestHandshakes_timestampsOnlyGoForward(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		key := newKey(t)
		s := w.stranger("198.51.100.1:4000")
		if err := b.tun.Configure(Change{Peers: []PeerChange{{PublicKey: key.Public()}}}); err != nil {
			t.Fatal(err)
		}
		h := newHand(key, b.key.Public())
		at := time.Now()
		for i, c := range []struct {
			stamp time.Time
			want  int
		}{
			{at, 1}, {at, 0}, {at.Add(-time.Hour), 0}, {at.Add(-20 * time.Millisecond), 0},
			{at.Add(20 * time.Millisecond), 1}, {at.Add(time.Hour), 1}, {at.Add(time.Minute), 0},
		} {
			time.Sleep(time.Second)
			msg, pending := h.initiation(w, c.stamp)
			s.sends(b.addr, msg)
			synctest.Wait()
			got := s.got()
			if len(got) != c.want {
				t.Fatalf("%d: %d answers, want %d", i, len(got), c.want)
			}
			if c.want == 1 {
				if _, err := h.id.Finish(pending, h.remote, keys.PresharedKey{}, got[0]); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}
		}
	})
}

func TestHandshakes_fiftyInitiationsASecondOfOnePeer(t *testing.T) {
	inBubble(t, func(w *world) {
		b := w.end()
		key := newKey(t)
		s := w.stranger("198.51.100.1:4000")
		if err := b.tun.Configure(Change{Peers: []PeerChange{{PublicKey: key.Public()}}}); err != nil {
			t.Fatal(err)
		}
		h := newHand(key, b.key.Public())
		for i := range 200 { // one each 5 ms
			msg, _ := h.initiation(w, time.Now().Add(time.Duration(i)*time.Second))
			s.sends(b.addr, msg)
			passes(5 * time.Millisecond)
		}
		if n := len(s.got()); n != 50 {
			t.Errorf("%d answers in a second, want 50", n)
		}
		if n := b.dropped(drop.RateLimited); n != 150 {
			t.Errorf("%d counted as too many, want 150", n)
		}
	})
}

// Wrong keys are named, not answered: an initiation for another server has no valid mac1 here.
func TestHandshakes_lowOrderPeerNeverGetsAnything(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.end()
		w.ears.take()
		for _, point := range []keys.PublicKey{{}, {1}} {
			err := a.tun.Configure(Change{Peers: []PeerChange{{
				PublicKey: point, Endpoint: netip.MustParseAddrPort("198.51.100.1:4000"),
				AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			a.queue.Inject(packet(a.inner, netip.MustParseAddr("10.1.1.1"), 10))
			passes(time.Minute)
		}
		if n := a.tun.env.Waiting.Bytes(); n != 0 {
			t.Errorf("%d bytes wait for a session that can never be", n)
		}
		if i, r, c, data, empty := w.ears.take(); i+r+c+data+empty != 0 {
			t.Errorf("sent %d %d %d %d %d to a peer whose key is a low-order point", i, r, c, data, empty)
		}
		if got := a.tun.Status().Peers[1].LastError; got != "handshake cannot be made: "+noise.ErrLowOrder.Error() {
			t.Errorf("LastError = %q", got)
		}
	})
}

package tunnel

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/tunnel/timers"
)

func keepsAlive(d time.Duration) func(*PeerChange) {
	return func(p *PeerChange) { p.Keepalive = &d }
}

func TestKeepalive_persistentIsExact(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		seen := w.times()
		a.knows(b, true, keepsAlive(25*time.Second)) // says at once that we are here
		passes(110 * time.Second)
		got := seen.keepalives(a)
		if len(got) != 5 {
			t.Fatalf("keepalives at %v, want five", got)
		}
		for i, at := range got {
			if want := time.Duration(i) * 25 * time.Second; at != want {
				t.Errorf("keepalive %d at %v, want %v", i, at, want)
			}
		}
		if n := len(seen.keepalives(b)); n != 0 { // mistake 6
			t.Errorf("%d keepalives in answer to keepalives", n)
		}
		a.knows(b, true, keepsAlive(0))
		before := len(seen.keepalives(a))
		passes(time.Minute)
		if n := len(seen.keepalives(a)) - before; n != 0 {
			t.Errorf("%d keepalives after it was turned off", n)
		}
	})
}

// A mistake that other implementations made: a persistent keepalive although traffic flows, either
// way.
func TestKeepalive_persistentRestsWhileTrafficFlows(t *testing.T) {
	for _, c := range []struct {
		name         string
		aSays, bSays bool
		want         int // of a, in 200 s
	}{{"both ways", true, true, 0}, {"out only", true, false, 0}, {"in only", false, true, 200 / 10}} {
		inBubble(t, func(w *world) {
			a, b := w.connected()
			a.knows(b, true, keepsAlive(25*time.Second))
			synctest.Wait() // it greets at once
			seen := w.times()
			for range 200 {
				if c.aSays {
					a.sends(b, 10)
				}
				if c.bSays {
					b.sends(a, 10)
				}
				passes(time.Second)
			}
			// In the last case they are passive ones: data has come, and nothing has gone for ten
			// seconds.
			if n := len(seen.keepalives(a)); n < c.want-2 || n > c.want+1 {
				t.Errorf("%s: %d keepalives in 200 s, want %d", c.name, n, c.want)
			}
		})
	}
}

// A peer that is away for an hour gets one keepalive when it is back, not one for each interval it
// missed.
func TestKeepalive_persistentDoesNotPileUp(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		seen := w.times()
		seen.lose(everything)
		a.knows(b, true, keepsAlive(2*time.Second)) // more often than handshakes are retried
		passes(time.Hour)
		if got := a.tun.Status().Peers[0].Staged; got > 1 {
			t.Errorf("%d packets wait", got)
		}
		if n := len(seen.initiations(a)); n < 600 || n > 725 {
			t.Errorf("%d initiations in an hour, want one each 5 s", n)
		}
		seen.lose(nothing)
		before := len(seen.keepalives(a))
		passes(5500 * time.Millisecond)
		if n := len(seen.keepalives(a)) - before; n < 1 || n > 3 {
			t.Errorf("%d keepalives when the peer was back, want one and then one each 2 s", n)
		}
	})
}

// A mistake that other implementations made: passive keepalives are timed from the first data
// received, and keepalives do not cause any.
func TestKeepalive_passiveIsTimedFromReceivedData(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(30 * time.Second)
		seen := w.times()
		b.sends(a, 10)
		passes(4 * time.Second)
		b.sends(a, 10) // more data does not put it off
		passes(40 * time.Second)
		if got := seen.keepalives(a); len(got) != 1 || got[0] != timers.KeepaliveTimeout {
			t.Errorf("keepalives at %v, want one at %v", got, timers.KeepaliveTimeout)
		}
		if n := len(seen.keepalives(b)); n != 0 {
			t.Errorf("%d keepalives in answer to keepalives", n)
		}
	})
}

// Sending anything is as good as a keepalive.
func TestKeepalive_passiveIsNotSentWhenSomethingElseWas(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(30 * time.Second)
		seen := w.times()
		for range 9 { // less than 120 s: a new session begins with a keepalive
			b.sends(a, 10)
			passes(8 * time.Second)
			a.sends(b, 10)
			passes(time.Second)
		}
		if n := len(seen.keepalives(a)) + len(seen.keepalives(b)); n != 0 {
			t.Errorf("%d keepalives while both sides talk", n)
		}
	})
}

package tunnel

import (
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/internal/drop"
)

// The window of RFC 6479, at its edges, through the whole engine.
func TestReplay_windowAtItsEdges(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		s := w.stranger(elsewhere)
		const top = 20000
		for _, c := range []struct {
			counter uint64
			fresh   bool
		}{
			{top, true}, {top, false}, {top - 8128, true}, {top - 8128, false}, {top - 8129, false}, {top - 1, true},
			{top - 8127, true}, {0, false}, {top + 1, true}, {top - 8127, false}, {top - 8126, true},
			{top + 8129, true}, {top + 1, false}, {top + 2, true}, {1 << 40, true}, {top + 8130, false},
			{1<<40 - 8128, true}, {1<<40 - 8129, false}, {1 << 40, false},
		} {
			before := b.dropped(drop.Replay)
			s.sends(b.addr, a.sealed(b, c.counter, packet(a.inner, b.inner, 12)))
			synctest.Wait()
			if fresh := b.got() == 1; fresh != c.fresh {
				t.Errorf("counter %d: delivered %v, want %v", c.counter, fresh, c.fresh)
			}
			if counted := b.dropped(drop.Replay) - before; (counted == 1) == c.fresh {
				t.Errorf("counter %d: %d counted as replays", c.counter, counted)
			}
		}
	})
}

// A mistake that other implementations made: state that moves before the tag has verified. A forged
// message moves no window, endpoint, timer or counter.
func TestReplay_forgedMessagesChangeNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(20 * time.Second)
		p := b.peerOf(a)
		type state struct {
			rx, packets uint64
			last        int64
			endpoint    netip.AddrPort
			highest     uint64
		}
		look := func() state {
			s := p.Status(w.clock.Now(), w.clock.Wall())
			return state{s.RxBytes, s.RxPackets, int64(p.LastReceived()), s.Endpoint, s.Session.Highest}
		}
		before := look()
		s := w.stranger(elsewhere)
		for i, counter := range []uint64{1, 5, 1 << 20, 1 << 59} {
			msg := a.sealed(b, counter, packet(a.inner, b.inner, 12))
			msg[len(msg)-1-i] ^= 1
			s.sends(b.addr, msg)
			cut := a.sealed(b, counter, packet(a.inner, b.inner, 12))
			s.sends(b.addr, cut[:len(cut)-16])
		}
		passes(time.Second)
		if got := look(); got != before {
			t.Errorf("after forged messages %+v, before %+v", got, before)
		}
		if n := b.dropped(drop.BadTag); n != 8 {
			t.Errorf("%d bad tags counted, want 8", n)
		}
		w.ears.take()
		passes(20 * time.Second)
		if i, r, c, data, empty := w.ears.take(); i+r+c+data+empty != 0 {
			t.Errorf("forged messages started timers: %d %d %d %d %d", i, r, c, data, empty)
		}
		a.sends(b, 10)
		b.expect(1, "the next genuine one")
	})
}

// kept remembers timestamps, as a file does.
type kept struct {
	mu     sync.Mutex
	newest map[keys.PublicKey]noise.Timestamp
	sent   map[keys.PublicKey]noise.Timestamp
}

func (k *kept) LastSent(peer keys.PublicKey) noise.Timestamp {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sent[peer]
}

func (k *kept) Sent(peer keys.PublicKey, ts noise.Timestamp) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sent == nil {
		k.sent = make(map[keys.PublicKey]noise.Timestamp)
	}
	k.sent[peer] = ts
}

func (k *kept) Last(peer keys.PublicKey) noise.Timestamp {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newest[peer]
}

func (k *kept) Accepted(peer keys.PublicKey, ts noise.Timestamp) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.newest[peer] = ts
}

// With timestamps that are remembered elsewhere, a recorded initiation is refused after a restart,
// and after the peer was removed and added again. A fresh one is not.
func TestReplay_timestampsOutliveTunnelAndPeer(t *testing.T) {
	for _, restart := range []bool{true, false} {
		inBubble(t, func(w *world) {
			a, b := w.end(), w.end()
			file := &kept{newest: make(map[keys.PublicKey]noise.Timestamp)}
			begin := func() {
				a.tun.Close()
				w.startWith(a, w.clock, func(o *Options) { o.Timestamps = file })
				a.knows(b, true)
			}
			begin()
			b.knows(a, true)
			rec := w.record()
			b.sends(a, 10)
			recorded := rec.lastOf(t, wire.TypeInitiation).Payload
			passes(time.Hour)
			if restart {
				begin()
			} else {
				a.configure(Change{Peers: []PeerChange{{PublicKey: b.key.Public(), Remove: true}}})
				a.knows(b, true)
			}
			before := a.dropped(drop.HandshakeFailed)
			s := w.stranger(elsewhere)
			s.sends(a.addr, recorded)
			synctest.Wait()
			if n := len(s.got()); n != 0 || a.dropped(drop.HandshakeFailed) != before+1 {
				t.Errorf("restart %v: %d answers, %d refused", restart, n, a.dropped(drop.HandshakeFailed)-before)
			}
			a.got()
			b.sends(a, 10)
			a.expect(1, "a fresh one")
		})
	}
}

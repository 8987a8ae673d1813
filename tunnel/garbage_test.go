package tunnel

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/wire"
)

// A hundred thousand random and mutated datagrams: nothing is sent back, nothing panics, no table
// grows, each is counted, and the session between genuine peers goes on.
func TestTunnel_garbageIsSilentlyCounted(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		rec := w.record()
		a.sends(b, 100)
		b.expect(1, "to connect")
		seeds := rec.take(0)
		w.net.Filter(nil)
		passes(30 * time.Second)
		w.ears.take()
		indices, before := b.tun.env.Index.Len(), total(b.tun)
		s := w.stranger(elsewhere)
		random := rand.New(rand.NewPCG(3, 3))
		const rounds, each = 50, 2000
		for range rounds {
			for range each {
				s.sends(b.addr, garbage(random, seeds[random.IntN(len(seeds))].Payload))
			}
			synctest.Wait()
		}
		if n := len(s.got()); n != 0 {
			t.Errorf("%d datagrams were sent back", n)
		}
		if i, r, c, data, empty := w.ears.take(); i+r+c+data+empty != 0 {
			t.Errorf("garbage made the tunnels send %d %d %d %d %d", i, r, c, data, empty)
		}
		if n := total(b.tun) - before; n != rounds*each {
			t.Errorf("%d counted, want %d: %v", n, rounds*each, b.tun.drops.Snapshot())
		}
		if n := b.tun.env.Index.Len(); n != indices {
			t.Errorf("%d indices, before %d", n, indices)
		}
		if b.tun.env.Waiting.Bytes() != 0 || b.tun.env.Deadlines.Len() > 1 {
			t.Errorf("tables grew: %d bytes staged, %d timers", b.tun.env.Waiting.Bytes(), b.tun.env.Deadlines.Len())
		}
		if got := b.endpointOf(a); got != a.addr {
			t.Errorf("garbage moved the peer to %v", got)
		}
		b.expect(0, "garbage")
		a.sends(b, 10)
		b.expect(1, "afterwards")
	})
}

// garbage makes a datagram from a genuine one, or from nothing.
func garbage(random *rand.Rand, genuine []byte) []byte {
	switch kind := random.IntN(8); kind {
	case 0, 1: // noise of any size, sometimes with a type
		out := static(random, 1+random.IntN(1500))
		if len(out) >= 4 && kind == 1 {
			binary.LittleEndian.PutUint32(out, uint32(random.IntN(6)))
		}
		return out
	case 2: // right type and size, the rest is noise
		size := map[int]int{1: wire.InitiationSize, 2: wire.ResponseSize, 3: wire.CookieReplySize, 4: 32 + 16*random.IntN(90)}
		typ := 1 + random.IntN(4)
		out := static(random, size[typ])
		binary.LittleEndian.PutUint32(out, uint32(typ))
		return out
	case 3: // cut short
		return append([]byte(nil), genuine[:1+random.IntN(len(genuine)-1)]...)
	case 4: // longer
		return append(append([]byte(nil), genuine...), static(random, 1+random.IntN(100))...)
	case 5: // a replay
		return append([]byte(nil), genuine...)
	}
	out := append([]byte(nil), genuine...)
	for range 1 + random.IntN(3) { // a few bits
		out[random.IntN(len(out))] ^= 1 << random.IntN(8)
	}
	return out
}

func static(random *rand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}

// total is the number of packets that died, for all reasons.
func total(t *Tunnel) (sum uint64) {
	for _, n := range t.drops.Snapshot() {
		sum += n
	}
	return sum
}

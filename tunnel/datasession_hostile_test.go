package tunnel

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/aead"
	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/drop"
	"tund/tunnel/datasession"
	"tund/tunnel/extension"
	"tund/tunnel/udp/udptest"
)

// The transport keys of the WireGuard session open its messages and nothing of the data sessions,
// and neither does what an observer can make of the recorded offers.
func TestDataSessions_transportKeysDoNotOpenThem(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Require, datasession.Require)
		var recorded [][]byte
		w.net.Watch(func(d udptest.Datagram) {
			if !isHandshake(d) {
				recorded = append(recorded, slices.Clone(d.Payload))
			}
		})
		a.sends(b, 100)
		passes(time.Second)
		for range 10 {
			a.sends(b, 100)
			b.sends(a, 100)
		}
		b.expect(11, "b")
		mains := []*session.Session{a.peerOf(b).Current().Session, b.peerOf(a).Current().Session}
		opened, closed := 0, 0
		for _, d := range recorded {
			out := make([]byte, len(d))
			ok := false
			for _, s := range mains {
				n, opens := s.Open(out, d, new(session.Scratch))
				if opens && n > 0 && out[0]>>4 == 4 {
					t.Fatal("a packet opens with the transport keys of the WireGuard session")
				}
				ok = ok || opens
			}
			if ok {
				opened++
			} else {
				closed++
			}
		}
		if opened < 4 || closed < 21 {
			t.Errorf("%d messages open, %d do not", opened, closed)
		}
	})
}

// A replayed datagram of a data session is dropped and counted, like any other.
func TestDataSessions_replaysAreDropped(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		a.sends(b, 10)
		passes(time.Second)
		r := w.record()
		a.sends(b, 10)
		b.expect(2, "before")
		s := w.stranger("198.51.100.2:4000")
		s.sends(b.addr, r.lastOf(t, wire.TypeTransport).Payload)
		synctest.Wait()
		b.expect(0, "replayed")
		if n := b.dropped(drop.Replay); n != 1 {
			t.Errorf("%d replays counted, want 1", n)
		}
	})
}

// A peer that sends what it likes as offers and answers changes nothing but the counters.
func TestDataSessions_hostileOffersAreCounted(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.dataPair(datasession.Prefer, datasession.Prefer)
		a.sends(b, 10)
		passes(time.Second)
		carries(t, aead.AES256GCM, true, a, b)
		indices := b.tun.env.Index.Len()
		kp, at := b.peerOf(a).Current(), b.dropped(drop.BadInnerPacket)
		part := func(number, length, size int) []byte {
			return append([]byte{byte(number), 0, byte(length >> 8), byte(length)}, make([]byte, size)...)
		}
		hostile := 0
		for _, typ := range []extension.Type{extension.TypeOffer, extension.TypeAnswer} {
			for _, body := range [][]byte{
				nil, {1}, part(0, 0, 0), part(0, 4, 4), part(9, 4, 4), part(0, 3000, 1024), part(2, 3000, 100), part(0, 65535, 1024),
			} {
				hostile++
				b.tun.env.Drop(kp.Peer, b.tun.env.Control(kp, extension.AppendMessage(nil, typ, body), b.clock.Now()), 1)
				passes(time.Millisecond)
			}
		}
		// A part that may be one of a longer message waits for the others, and an offer after the
		// agreement is ignored.
		if n := b.dropped(drop.BadInnerPacket) - at; n < uint64(hostile)-3 || n > uint64(hostile) {
			t.Errorf("%d of %d were counted", n, hostile)
		}
		if n := b.tun.env.Index.Len(); n != indices || b.dropped(drop.Internal) != 0 {
			t.Errorf("%d indices, were %d; %d panics", n, indices, b.dropped(drop.Internal))
		}
		a.sends(b, 10)
		b.sends(a, 10)
		a.expect(1, "afterwards")
		b.expect(2, "afterwards")
		carries(t, aead.AES256GCM, true, a, b)
	})
}

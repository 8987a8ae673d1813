package tunnel

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tund/crypto/keys"
	"tund/internal/drop"
)

// initiation makes an initiation of the owner of from to the owner of to, stamped with wall.
func initiation(w *world, from keys.PrivateKey, to keys.PublicKey, wall time.Time) []byte {
	msg, _ := newHand(from, to).initiation(w, wall)
	return msg
}

// Whatever comes from the network writes few lines to the log: 2,000 datagrams of each kind in
// 20 s, from strangers and from a peer.
func TestLog_aFloodWritesFewLines(t *testing.T) {
	stranger, other := newKey(t), newKey(t)
	for name, c := range map[string]struct {
		make   func(w *world, a, b *end, i int) []byte
		reason drop.Reason // counted for each; drop.None: not asked
		most   int
	}{
		"peer that moves with each datagram": {
			func(_ *world, a, b *end, i int) []byte {
				return a.sealed(b, uint64(100+i), packet(a.inner, b.inner, 12))
			},
			drop.None, 1},
		"initiations for another key": {
			func(w *world, a, b *end, i int) []byte {
				return initiation(w, stranger, other.Public(), w.clock.Wall())
			},
			drop.BadMAC1, 2},
		"initiations of an unknown peer": {
			func(w *world, a, b *end, i int) []byte {
				return initiation(w, stranger, b.key.Public(), w.clock.Wall())
			}, drop.HandshakeFailed, 2},
		"initiations with an old timestamp": {
			func(w *world, a, b *end, i int) []byte {
				return initiation(w, a.key, b.key.Public(), w.clock.Wall().Add(-time.Hour))
			}, drop.HandshakeFailed, 1},
		"initiations that lead to no session": {
			func(w *world, a, b *end, i int) []byte { return initiation(w, a.key, b.key.Public(), w.clock.Wall()) },
			drop.None, 1},
		"random transport messages": {
			func(_ *world, a, b *end, i int) []byte {
				msg := a.sealed(b, uint64(100+i), packet(a.inner, b.inner, 12))
				msg[len(msg)-1] ^= 1
				return msg
			}, drop.BadTag, 0},
		"forbidden inner sources": {
			func(_ *world, a, b *end, i int) []byte {
				return a.sealed(b, uint64(100+i), packet(b.inner, b.inner, 12))
			},
			drop.None, 1}, // it moves
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				core, logs := observer.New(zapcore.InfoLevel)
				a, b := w.end(), w.end()
				b.tun.Close()
				w.startWith(b, w.clock, func(o *Options) { o.Log = zap.New(core) })
				a.knows(b, true)
				b.knows(a, false)
				a.sends(b, 10)
				b.expect(1, "at first")
				logs.TakeAll()
				s1, s2 := w.stranger("198.51.100.1:4001"), w.stranger("198.51.100.1:4002")
				const n = 2000
				before := b.dropped(c.reason)
				for i := range n {
					msg := c.make(w, a, b, i)
					if i%2 == 0 {
						s1.sends(b.addr, msg)
					} else {
						s2.sends(b.addr, msg)
					}
					passes(10 * time.Millisecond)
				}
				synctest.Wait()
				if got := logs.Len(); got > c.most {
					t.Errorf("%d datagrams wrote %d lines, want at most %d; the last: %v", n, got, c.most, logs.All()[got-1])
				}
				if got := b.dropped(c.reason) - before; c.reason != drop.None && got != n {
					t.Errorf("%d of %d counted as %v", got, n, c.reason)
				}
			})
		})
	}
}

// stuckLog is a log whose writer never returns before the test ends.
type stuckLog struct {
	zapcore.Core
	end <-chan struct{}
}

func (stuckLog) Enabled(zapcore.Level) bool { return true }

func (l stuckLog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, l)
}

func (l stuckLog) Write(zapcore.Entry, []zapcore.Field) error {
	<-l.end
	return nil
}

func TestLog_stuckOutputKeepsNobodyFromHandshakes(t *testing.T) {
	inBubble(t, func(w *world) {
		end := make(chan struct{})
		defer close(end)
		a, dead, late := w.end(), w.end(), w.end()
		a.tun.Close()
		w.startWith(a, w.clock, func(o *Options) { o.Log = zap.New(stuckLog{zapcore.NewNopCore(), end}) })
		a.knows(dead, true) // dead does not know a, so it does not answer
		a.sends(dead, 10)
		passes(12 * time.Second) // that was said by now
		a.knows(late, true)
		late.knows(a, false)
		a.sends(late, 10)
		passes(time.Second)
		late.expect(1, "while the log is stuck")
		dead.knows(a, true)
		dead.sends(a, 10)
		passes(6 * time.Second)
		a.expect(1, "of the peer that was complained of")
	})
}

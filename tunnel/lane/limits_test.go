package lane

import (
	"fmt"
	"testing"

	"tund/crypto/aead"
	"tund/crypto/session"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/timers"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
)

// Every data session ends when its WireGuard session does, and at the same last counter, in both
// directions. It asks for a new one at the age that is due, and after as many messages as its
// cipher allows.
func TestDataSessions_limitsAreThoseOfTheWireGuardSession(t *testing.T) {
	t.Parallel()
	const lanes = 3
	for suite, messages := range map[aead.Suite]uint64{
		aead.ChaCha20Poly1305: session.RekeyAfterMessages, aead.AES256GCM: session.RekeyAfterMessagesAES,
	} {
		b := newBench(t, tundev.Features{})
		far := b.dataSessions(t, suite, lanes)
		born := still{}.Now()
		packet := tundevtest.Packet(b.inner, b.inner, 12)
		for i := range lanes {
			in := NewReceiveLoop(b.env, New(i, newHole(), new(watchdog.Progress)), []*Device{b.dev})
			for _, x := range []struct {
				counter uint64
				age     boottime.Time
				taken   bool
			}{
				{5, 0, true},
				{session.RejectAfterMessages, 0, false},
				{6, boottime.Time(timers.RejectAfterTime) - 1, true},
				{7, boottime.Time(timers.RejectAfterTime), false},
				{session.RejectAfterMessages - 1, 0, true},
			} {
				what := fmt.Sprintf("%v, lane %d, counter %d, age %d", suite, i, x.counter, x.age)
				got, expired := b.dev.Counts().RxPackets, b.env.Drops.Get(drop.Expired)
				b.train.N = far[i].Seal(b.train.Buf, x.counter, packet, &b.nonce)
				b.train.Segment = b.train.N
				in.Carry(&b.train, born+x.age)
				in.Flush()
				taken := b.dev.Counts().RxPackets == got+1
				if refused := b.env.Drops.Get(drop.Expired) == expired+1; taken != x.taken || refused == x.taken {
					t.Errorf("%s: taken %t, refused as expired %t", what, taken, refused)
				}
			}
			kp := b.peer.Sending(i, born)
			if kp == nil || kp == b.main {
				t.Fatalf("%v, lane %d: packets do not leave in a data session", suite, i)
			}
			renews := [4]bool{
				kp.RenewOnSend(messages, born), kp.RenewOnSend(messages+1, born),
				kp.RenewOnSend(0, born.Add(timers.RekeyAfterTime)-1), kp.RenewOnSend(0, born.Add(timers.RekeyAfterTime)),
			}
			if renews != [4]bool{false, true, false, true} {
				t.Errorf("%v, lane %d: a new session is asked for %v before and at each limit", suite, i, renews)
			}
			if old := b.peer.Sending(i, born.Add(timers.RejectAfterTime)); old != nil {
				t.Errorf("%v, lane %d: packets leave in a session that has ended", suite, i)
			}
		}
	}
}

package capture

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/capture/stream"
)

// Whoever could read the memory of a daemon later, with the datagrams of a session recorded, would
// need no more than the keys of its handshake.
func TestSession_keysAreOverwrittenOnceTheyAreSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var taps Taps
		o := options(MaxSnap)
		o.Secrets = true
		s := begin(t, &taps, o)
		set, p := taps.Load(), newPeer(t, 1, "berlin")
		secret := stream.Secret{Ephemeral: [32]byte(bytes.Repeat([]byte{0xe7}, 32))}
		held := func() bool { return bytes.Contains(s.rings[0].buf, secret.Ephemeral[:]) }

		sent, broken := 0, errors.New("the reader has left")
		ended := make(chan error)
		go func() {
			ended <- s.Stream(context.Background(), func(b []byte) error {
				if !bytes.Contains(b, secret.Ephemeral[:]) {
					return nil
				}
				if sent++; sent == 2 {
					return broken
				}
				return nil
			}, func() error { return nil })
		}()
		synctest.Wait() // it has found nothing, and waits
		set.Secret(1, &secret, p)
		if !held() {
			t.Error("the keys are not in the ring before they are sent")
		}
		time.Sleep(2 * drainEvery)
		synctest.Wait()
		if sent != 1 || held() {
			t.Errorf("sent %d times; the ring has the keys: %t", sent, held())
		}
		set.Secret(2, &secret, p)
		if err := <-ended; err != broken || held() {
			t.Errorf("Stream: %v; the ring has keys that could not be sent: %t", err, held())
		}
		set.Secret(3, &secret, p) // a worker that had loaded the set before
		if held() {
			t.Error("the ring has keys that nobody reads any more")
		}
	})
}

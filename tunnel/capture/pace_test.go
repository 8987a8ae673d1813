package capture

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A capture of little from each packet of a fast flow takes the processor from the lanes seldom,
// and people who watch see packets soon nevertheless.
func TestStream_readsLittleSeldom(t *testing.T) {
	t.Parallel()
	for snap, most := range map[int]int{littleSnap: 64, MaxSnap: 256} {
		synctest.Test(t, func(t *testing.T) {
			var taps Taps
			w := taps.NewWriter()
			s := begin(t, &taps, options(snap))
			looks, flushes := 0, 0
			ended := make(chan error)
			go func() {
				ended <- s.Stream(context.Background(), func([]byte) error { looks++; return nil },
					func() error { flushes++; return nil })
			}()
			data := make([]byte, 1400)
			for range 1000 { // a second
				taps.Load().Packet(w, &Packet{Data: data, Device: 1})
				time.Sleep(time.Millisecond)
			}
			s.Stop("enough")
			if err := <-ended; err != nil {
				t.Error(err)
			}
			marks := int(time.Second/markAfter) + 2
			if looks > most+marks+8 || flushes > marks || flushes < marks/2 {
				t.Errorf("snap length %d: %d pieces and %d flushes in a second", snap, looks, flushes)
			}
			if taken, lost := s.Counts(); taken != 1000 || lost != 0 {
				t.Errorf("snap length %d: %d taken, %d lost", snap, taken, lost)
			}
		})
	}
}

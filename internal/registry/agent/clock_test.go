package agent

import (
	"context"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

const tenYears = 10 * 365 * 24 * time.Hour

// steady is a store that shows everything once, whenever it is asked to begin.
type steady struct{ *fakeStore }

func (s steady) Run(ctx context.Context, sink func(News)) {
	s.mu.Lock()
	all := maps.Clone(s.values)
	s.mu.Unlock()
	sink(News{All: all})
	<-ctx.Done()
}

// A clock that is set, at whatever distance, has the registry read again at once: a host that knows
// nothing and starts without the right time has its peers seconds after it has heard the time. A
// clock that goes back ends nothing. One that goes forward ends grants, within the limits for
// removals, and once it is right again everybody is back.
func TestAgent_clockThatIsSet(t *testing.T) {
	inWorld(t, 30, func(w *world) {
		w.shows()
		all := w.daemon.names()
		var off atomic.Int64
		startAnew := func() {
			w.stop()
			clear(w.disk.files)
			w.daemon.restart()
			w.startWith(Options{
				View:   view.Options{Trust: record.Trust{Network: "acme", Signers: w.signers, Threshold: 1}, Self: siteOf(0)},
				Daemon: w.daemon, Store: steady{w.store},
				Now: func() time.Time { return time.Unix(0, time.Now().UnixNano()+off.Load()) },
			})
		}
		set := func(d time.Duration) {
			off.Store(int64(d))
			w.passes(beat + time.Second)
		}
		startAnew()
		set(0)
		w.expect("at first", all)
		set(-tenYears)
		w.passes(2 * time.Hour)
		w.expect("with a clock that has gone back ten years", all)

		startAnew()
		w.passes(time.Hour)
		w.expect("without memory, ten years ago", "")
		set(0)
		w.expect("once the time is right", all)

		set(tenYears)
		w.passes(50 * time.Minute)
		if _, least := w.daemon.counts(); least != 29-view.Allowance(29) {
			t.Errorf("%d peers with a clock that is ten years ahead, in the first hour", least)
		}
		w.passes(time.Hour)
		w.expect("ten years ahead", "")
		set(0)
		w.expect("once the time is right again", all)
	})
}

// Only what is no ordinary correction is a clock that was set.
func TestClock_wasSet(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	for _, c := range []struct {
		wall, running time.Duration // since the look before
		want          bool
	}{
		{5 * time.Second, 5 * time.Second, false},
		{5*time.Second + 2*time.Millisecond, 5 * time.Second, false},
		{-tenYears, 5 * time.Second, true},
		{tenYears, 5 * time.Second, true},
		{8 * time.Hour, 5 * time.Second, true}, // suspended
		{8 * time.Hour, 8 * time.Hour, false},  // no look for long
	} {
		var k clock
		if k.wasSet(begin, begin) {
			t.Error("at the first look")
		}
		if got := k.wasSet(begin.Add(c.wall), begin.Add(c.running)); got != c.want {
			t.Errorf("%v after %v: %t", c.wall, c.running, got)
		}
	}
}

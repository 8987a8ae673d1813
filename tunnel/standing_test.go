package tunnel

import (
	"testing"
	"time"

	"tund/internal/boottime"
)

func TestStanding_burstsThatEndCostNothing(t *testing.T) {
	t.Parallel()
	var s standing
	now := boottime.Time(time.Hour)
	for range 1000 {
		for range 19 {
			if s.shed(now) {
				t.Fatal("shed a packet of a queue that empties every 19 ms")
			}
			now = now.Add(time.Millisecond)
		}
		s.empty()
	}
}

func TestStanding_shedsMoreOftenWhileTheQueueStands(t *testing.T) {
	t.Parallel()
	var s standing
	start := boottime.Time(time.Hour)
	var at []time.Duration
	for d := time.Duration(0); d < 100*time.Millisecond; d += 100 * time.Microsecond {
		if s.shed(start.Add(d)) {
			at = append(at, d)
		}
	}
	if len(at) < 5 || at[0] != standingInterval {
		t.Fatalf("shed at %v", at)
	}
	for i := 2; i < len(at); i++ {
		if at[i]-at[i-1] > at[i-1]-at[i-2] {
			t.Errorf("slower at %v", at[i])
		}
	}
}

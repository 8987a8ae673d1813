package lane

import (
	"testing"
	"time"

	"tund/internal/boottime"
)

func TestCodel_shortWaitsCostNothing(t *testing.T) {
	t.Parallel()
	var c codel
	now := boottime.Time(time.Hour)
	for i := range 10000 {
		waited := codelTarget - 1
		if i%90 != 0 {
			waited = time.Second // but never for a whole interval
		}
		if c.shed(waited, now) {
			t.Fatalf("shed at step %d", i)
		}
		now = now.Add(time.Millisecond)
	}
}

func TestCodel_shedsMoreOftenWhileTheQueueStands(t *testing.T) {
	t.Parallel()
	var c codel
	start := boottime.Time(time.Hour)
	var at []time.Duration
	for d := time.Duration(0); d < time.Second; d += 100 * time.Microsecond {
		if c.shed(2*codelTarget, start.Add(d)) {
			at = append(at, d)
		}
	}
	if len(at) < 10 || at[0] != codelInterval {
		t.Fatalf("shed at %v", at)
	}
	for i := 2; i < len(at); i++ {
		if at[i]-at[i-1] > at[i-1]-at[i-2] {
			t.Errorf("slower at %v", at[i])
		}
	}
}

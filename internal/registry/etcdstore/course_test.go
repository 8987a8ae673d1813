package etcdstore

import (
	"errors"
	"testing"
	"time"
)

// The watches of several ranges are read in any order. A cluster that goes back is still noticed,
// and so is one watch of several that has fallen silent.
func TestCourse(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	c := newCourse(moment{7, 100}, 2, start)
	for _, step := range []struct {
		watch       int
		where       moment
		first, last int64 // of changes
		after       time.Duration
		otherOne    bool
	}{
		{0, moment{7, 105}, 0, 0, time.Second, false},
		{1, moment{7, 104}, 0, 0, time.Second, false}, // said before, and read after
		{1, moment{7, 104}, 0, 0, time.Second, false},
		{1, moment{7, 103}, 0, 0, time.Second, true},
		{0, moment{7, 104}, 0, 0, time.Second, true},
		{0, moment{8, 106}, 0, 0, time.Second, true},
		{0, moment{8, 106}, 106, 106, time.Second, true},
		{0, moment{7, 104}, 101, 104, time.Second, false}, // of before it was at 105
		{0, moment{7, 103}, 103, 103, time.Second, true},
		{0, moment{7, 104}, 104, 104, time.Second, false}, // changed at once
		{0, moment{7, 106}, 0, 0, time.Minute, false},
	} {
		if err := c.heard(step.watch, step.where, step.first, step.last, start.Add(step.after)); errors.Is(err, errOther) != step.otherOne {
			t.Errorf("%+v: %v", step, err)
		}
	}
	if c.silent(start.Add(time.Minute), time.Minute) || !c.silent(start.Add(62*time.Second), time.Minute) {
		t.Error("one of the watches has said nothing for a minute")
	}
}

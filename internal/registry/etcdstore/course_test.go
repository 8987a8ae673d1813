package etcdstore

import (
	"errors"
	"testing"
	"time"
)

// The watches of several ranges are read in any order, and so are the changes and the progress of
// one. A cluster that goes back is still noticed, and so is one watch of several that has fallen
// silent.
func TestCourse(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	c := newCourse(moment{7, 100}, 2, start)
	at := func(revision int64) moment { return moment{7, revision} }
	for _, step := range []struct {
		watch    int
		where    moment
		changed  *[2]int64
		after    time.Duration
		settle   int // calls after it
		otherOne bool
	}{
		{0, at(99), nil, 0, 0, true}, // less than the list was read at
		{0, at(105), nil, time.Second, 0, false},
		{1, at(104), nil, time.Second, 0, false},                 // said before, and read after
		{0, at(104), &[2]int64{101, 104}, time.Second, 0, false}, // of before it was at 105
		{0, at(104), &[2]int64{104, 107}, time.Second, 0, false}, // a part of the same revision
		{0, at(103), &[2]int64{103, 103}, time.Second, 0, true},
		{0, at(106), nil, time.Second, 1, false}, // said before the change of 107
		{0, at(106), nil, time.Second, 1, false},
		{0, at(106), nil, time.Second, 0, true}, // still not there
		{0, moment{8, 108}, nil, time.Second, 0, true},
		{0, moment{8, 108}, &[2]int64{108, 108}, time.Second, 0, true},
		{1, at(104), nil, time.Second, 0, false},
		{0, at(108), nil, time.Minute, 0, false},
	} {
		if err := c.heard(step.watch, step.where, step.changed, start.Add(step.after)); errors.Is(err, errOther) != step.otherOne {
			t.Errorf("%+v: %v", step, err)
		}
		for range step.settle {
			c.settle()
		}
	}
	if c.silent(start.Add(time.Minute), time.Minute) || !c.silent(start.Add(62*time.Second), time.Minute) {
		t.Error("one of the watches has said nothing for a minute")
	}
}

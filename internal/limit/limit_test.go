package limit

import (
	"testing"
	"time"

	"tund/internal/boottime"
)

const start = boottime.Time(time.Hour)

func TestBucket_letsABurstAndThenTheRateThrough(t *testing.T) {
	t.Parallel()
	var b Bucket
	var u Until
	r := PerSecond(20, 5)
	passed, plain := 0, 0
	count := func(now boottime.Time) {
		if b.Take(now, 1, r) {
			passed++
		}
		if u.Take(now, r) {
			plain++
		}
	}
	for range 100 {
		count(start)
	}
	if passed != 5 || plain != 5 {
		t.Errorf("%d and %d passed at once, want the burst of 5", passed, plain)
	}
	passed, plain = 0, 0
	for i := range 1000 {
		count(start.Add(time.Duration(i+1) * time.Millisecond))
	}
	if passed != 20 || plain != 20 {
		t.Errorf("%d and %d passed in the second after, want 20", passed, plain)
	}
}

func TestBucket_anythingPassesOnceWhenIdle(t *testing.T) {
	t.Parallel()
	var b Bucket
	r := PerSecond(10, 2)
	if !b.Take(start, 50, r) {
		t.Error("a superpacket larger than the burst starves")
	}
	if b.Take(start.Add(time.Second), 1, r) {
		t.Error("what passed at once was not paid for")
	}
	if !b.Take(start.Add(time.Minute), 1, Rate{}) {
		t.Error("the zero rate limits")
	}
}

func TestEvery_countsWhatItHoldsBack(t *testing.T) {
	t.Parallel()
	var e Every
	if n, ok := e.Open(start, time.Minute); n != 1 || !ok {
		t.Errorf("first: %d, %v", n, ok)
	}
	for range 6 {
		if _, ok := e.Open(start.Add(time.Second), time.Minute); ok {
			t.Error("a second one within the interval")
		}
	}
	if n, ok := e.Open(start.Add(time.Minute), time.Minute); n != 7 || !ok {
		t.Errorf("after the interval: %d, %v; want 7, true", n, ok)
	}
}

package noise

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"
	"time"
)

func TestTimestamp_isTAI64NWithWhitenedNanoseconds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		at   time.Time
		want string
	}{
		{time.Unix(0, 0), "400000000000000a00000000"},
		{time.Unix(1, 1<<24-1), "400000000000000b00000000"},
		{time.Unix(1, 1<<24), "400000000000000b01000000"},
		{time.Unix(1700000000, 999999999), "400000006553f10a3b000000"},
		{time.Unix(1<<33, 123456789), "400000020000000a07000000"},
	} {
		ts := NewTimestamp(tt.at)
		if got := hex.EncodeToString(ts[:]); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.at, got, tt.want)
		}
	}
	base := time.Unix(1700000000, 0)
	for range 1000 {
		now := base.Add(rand.N(10 * time.Second))
		later := now.Add(1 << 24)
		u, v := NewTimestamp(now), NewTimestamp(later)
		if !v.After(u) || u.After(v) || u.After(u) {
			t.Fatalf("order of %x and %x is wrong", u, v)
		}
		if u[9]|u[10]|u[11] != 0 {
			t.Fatalf("%x: nanoseconds below 2^24 show", u)
		}
	}
	if !NewTimestamp(base).After(Timestamp{}) {
		t.Error("the zero timestamp is not before all others")
	}
}

func TestTimestamp_nextIsLater(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_800_000_000, 999_999_999)
	ts := NewTimestamp(at)
	for range 200 {
		next := ts.Next()
		if !next.After(ts) {
			t.Fatalf("%x after %x", next, ts)
		}
		ts = next
	}
	if d := 200 * (whitenerMask + 1); !NewTimestamp(at.Add(time.Duration(d) + time.Second)).After(ts) {
		t.Errorf("%x is more than 200 steps and a second later", ts)
	}
}

package boottime

import "time"

// Wall is an instant of the wall clock in a third of the space of a time.Time: nanoseconds since
// 1970. It is for what is kept of many and shown to people; nothing ages by it. The zero Wall means
// "never".
type Wall int64

// WallOf returns the instant t, which may be zero.
func WallOf(t time.Time) Wall {
	if t.IsZero() {
		return 0
	}
	return Wall(t.UnixNano())
}

// Time returns w in the local time zone, or the zero Time for the zero Wall.
func (w Wall) Time() time.Time {
	if w == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(w))
}

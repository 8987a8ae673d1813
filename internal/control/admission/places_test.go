package admission

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// fakeConn only notes that it was closed.
type fakeConn struct {
	net.Conn
	closed bool
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

func TestPlaces_chooseWhoGivesWay(t *testing.T) {
	t.Parallel()
	const grace = time.Second
	start := time.Unix(0, 0)
	type conn struct {
		uid       int
		age       time.Duration
		answering bool
	}
	for _, c := range []struct {
		name  string
		open  [3]conn
		uid   int
		stuck bool
		want  int // which of open goes; -1: none, and the new one has no place
	}{
		{"the oldest idle one", [3]conn{{1, 5 * grace, true}, {1, 2 * grace, false}, {1, 3 * grace, false}}, 1, true, 2},
		{"nobody within the grace", [3]conn{{1, grace / 2, false}, {1, grace / 3, false}, {1, 0, false}}, 1, true, -1},
		{"no grace towards another user", [3]conn{{1, grace / 3, false}, {1, grace / 2, false}, {1, 0, false}}, 2, true, 1},
		{"who has the most", [3]conn{{1, 0, false}, {2, 9 * grace, false}, {1, grace / 2, false}}, 3, true, 2},
		{"not the only one of a user", [3]conn{{1, 0, false}, {2, 9 * grace, false}, {1, grace / 2, false}}, 1, true, -1},
		{"nobody who is answered, for the same user", [3]conn{{1, 9 * grace, true}, {1, 5 * grace, true}, {1, grace, true}}, 1, true, -1},
		{"who is answered longest, for another", [3]conn{{1, 5 * grace, true}, {1, 9 * grace, true}, {1, grace, true}}, 2, true, 1},
		{"no writer who is answered", [3]conn{{1, 5 * grace, true}, {1, 9 * grace, true}, {1, grace, true}}, 2, false, -1},
	} {
		p := &places{max: 3, grace: grace, stuck: c.stuck}
		var open [3]*fakeConn
		for i, o := range c.open {
			open[i] = new(fakeConn)
			b := &Conn{Conn: open[i], Caller: Caller{UID: o.uid, Known: true}}
			if !p.admit(b, start.Add(-o.age)) {
				t.Fatalf("%s: no place for the first three", c.name)
			}
			b.answering = o.answering
		}
		got := p.admit(&Conn{Conn: new(fakeConn), Caller: Caller{UID: c.uid, Known: true}}, start)
		closed := ""
		for i, o := range open {
			if o.closed {
				closed += fmt.Sprint(i)
			}
		}
		want := ""
		if c.want >= 0 {
			want = fmt.Sprint(c.want)
		}
		if closed != want || got != (c.want >= 0) || len(p.open) != 3 {
			t.Errorf("%s: closed %q, admitted %t; want %q", c.name, closed, got, want)
		}
	}
}

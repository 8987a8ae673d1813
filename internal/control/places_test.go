package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// crowd is a server that takes every caller for the user that is set.
type crowd struct {
	*Server
	client  *Client
	user    atomic.Int64
	greeted atomic.Int64 // connections accepted
	opened  int64
}

func newCrowd(t *testing.T, b Backend) *crowd {
	t.Helper()
	c := new(crowd)
	c.Server, c.client = serveAs(t, b, func(net.Conn) caller {
		defer c.greeted.Add(1)
		return caller{uid: int(c.user.Load()), known: true}
	})
	return c
}

// ask makes a request as a user.
func (c *crowd) ask(uid int) error {
	c.user.Store(int64(uid))
	c.opened++
	_, err := c.client.LogLevel(context.Background())
	return err
}

// uids that are neither root's nor the daemon's.
var (
	attacker = os.Geteuid() + 1000
	monitor  = os.Geteuid() + 1001
)

// connect opens n connections of a user and sends text on each. They are closed when the test ends.
func (c *crowd) connect(t *testing.T, uid, n int, text string) (conns []net.Conn) {
	t.Helper()
	c.user.Store(int64(uid))
	for range n {
		conn, err := net.Dial("unix", c.Path())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, _ = io.WriteString(conn, text) // on a connection that is hung up on it fails
		conns = append(conns, conn)
	}
	c.opened += int64(n)
	for c.greeted.Load() < c.opened {
		time.Sleep(time.Millisecond)
	}
	return conns
}

// served waits until n callers have connections, of which some are being answered.
func (c *crowd) served(t *testing.T, n int) {
	t.Helper()
	g := c.socket.gate
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		count := 0
		for _, p := range []*places{&g.writers, &g.readers} {
			p.mu.Lock()
			for _, conn := range p.open {
				if conn.answering {
					count++
				}
			}
			p.mu.Unlock()
		}
		if count == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are being answered, want %d", count, n)
		}
	}
}

func TestServer_idleReadersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "GET /v1/version HTTP/1.1\r\nHost: x\r\n", "POST /v1/reload HTTP/1.1\r\nContent-Le"} {
		c := newCrowd(t, &fakeBackend{level: "info"})
		c.connect(t, attacker, 300, text)
		for _, uid := range []int{0, os.Geteuid(), monitor} {
			if err := c.ask(uid); err != nil {
				t.Errorf("user %d beside 300 connections that sent %q: %v", uid, text, err)
			}
		}
	}
}

func TestServer_idleConnectionsMakeRoomForTheirOwnUser(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, &fakeBackend{level: "info"})
	c.connect(t, monitor, maxReaders, "")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := c.ask(monitor)
		if err == nil {
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBusy || time.Now().After(deadline) {
			t.Fatalf("beside %d idle connections: %v", maxReaders, err)
		}
	}
}

func TestServer_busyReadersAreToldAndKeepOnlyThemselvesOut(t *testing.T) {
	t.Parallel()
	b := &fakeBackend{level: "info", gate: make(chan struct{})}
	c := newCrowd(t, b)
	defer close(b.gate)
	c.connect(t, attacker, maxReaders, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
	c.served(t, maxReaders)
	conn := c.connect(t, attacker, 1, "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")[0]
	if text, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 503 ") {
		t.Errorf("one reader more than there are places got %q, %v; want to be told and hung up on", text, err)
	}
	for _, uid := range []int{0, monitor} {
		if err := c.ask(uid); err != nil {
			t.Errorf("user %d beside a reader who fills all places: %v", uid, err)
		}
	}
}

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
			b := &boundedConn{Conn: open[i], caller: caller{uid: o.uid, known: true}}
			if !p.admit(b, start.Add(-o.age)) {
				t.Fatalf("%s: no place for the first three", c.name)
			}
			b.answering = o.answering
		}
		got := p.admit(&boundedConn{Conn: new(fakeConn), caller: caller{uid: c.uid, known: true}}, start)
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

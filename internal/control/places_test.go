package control

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tund/internal/control/admission"
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
	c.Server, c.client = serveAs(t, b, func(net.Conn) admission.Caller {
		defer c.greeted.Add(1)
		return admission.Caller{UID: int(c.user.Load()), Known: true}
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
	c.connect(t, monitor, admission.MaxReaders, "")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := c.ask(monitor)
		if err == nil {
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBusy || time.Now().After(deadline) {
			t.Fatalf("beside %d idle connections: %v", admission.MaxReaders, err)
		}
	}
}

func TestServer_busyReadersAreToldAndKeepOnlyThemselvesOut(t *testing.T) {
	t.Parallel()
	b := &fakeBackend{level: "info", gate: make(chan struct{})}
	c := newCrowd(t, b)
	defer close(b.gate)
	c.connect(t, attacker, admission.MaxReaders, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
	for deadline := time.Now().Add(10 * time.Second); b.asked.Load() < admission.MaxReaders; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests are being answered, want %d", b.asked.Load(), admission.MaxReaders)
		}
	}
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

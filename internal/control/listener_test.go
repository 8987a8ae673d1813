package control

import (
	"context"
	"errors"
	"go.uber.org/zap"
	"net"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestServer_boundsConnectionsAndKeepsRoomForRoot(t *testing.T) {
	t.Parallel()
	s, c := serveAs(t, &fakeBackend{level: "info"}, func(net.Conn) caller { return caller{} })
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for range maxConns - refusalConns - reservedConns {
		conn, err := net.Dial("unix", s.Path())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	var e *Error
	if _, err := c.LogLevel(context.Background()); !errors.As(err, &e) || e.Code != CodeBusy {
		t.Errorf("connection over the limit: %v, want busy", err)
	}
	conns[0].Close()
	for { // the server needs a moment to see that one left
		_, err := c.LogLevel(context.Background())
		if err == nil {
			break
		}
		if !errors.As(err, &e) || e.Code != CodeBusy {
			t.Fatalf("after one left: %v", err)
		}
	}
}

// failingListener fails as often as it is told, then behaves.
type failingListener struct {
	net.Listener
	failures []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.failures) > 0 {
		err := l.failures[0]
		l.failures = l.failures[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

func TestBoundedListener_outlivesRunningOutOfDescriptors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "s")
	inner, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	failures := slices.Repeat([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}, 4)
	l := newBoundedListener(&failingListener{inner, failures}, zap.NewNop())
	var waits []time.Duration
	l.wait = func(d time.Duration) bool { waits = append(waits, d); return true }
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	conn.Close()
	if len(waits) != 16 || waits[0] != acceptDelayMin || waits[1] != 2*acceptDelayMin || waits[15] != acceptDelayMax {
		t.Errorf("waited %v", waits)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

func TestBoundedListener_givesTheReservedPlacesToRoot(t *testing.T) {
	t.Parallel()
	s, c := serveAs(t, &fakeBackend{level: "info"}, func(net.Conn) caller { return caller{known: true} })
	for range maxConns - refusalConns - reservedConns {
		conn, err := net.Dial("unix", s.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if _, err := c.LogLevel(context.Background()); err != nil {
		t.Errorf("root with %d connections open: %v", maxConns-refusalConns-reservedConns, err)
	}
}

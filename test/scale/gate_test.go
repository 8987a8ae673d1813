package scale

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// gate is the way to a member of the cluster, which can be shut: what is under way waits, and
// nothing is answered, as when a cable is pulled.
type gate struct {
	listener net.Listener
	to       string

	mu    sync.Mutex // guards what follows
	cond  *sync.Cond
	shut  bool
	ended bool
	conns map[net.Conn]struct{}
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l, to: to, conns: map[net.Conn]struct{}{}}
	g.cond = sync.NewCond(&g.mu)
	go g.accept(t)
	t.Cleanup(func() {
		_ = l.Close()
		g.mu.Lock()
		g.ended = true
		g.cond.Broadcast()
		g.mu.Unlock()
		g.cut()
	})
	return g
}

func (g *gate) addr() string { return g.listener.Addr().String() }

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	g.cond.Broadcast()
}

// cut ends all connections.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.Close()
	}
}

// accept takes connections, while the gate is open: a thousand agents try for ten minutes, and what
// was taken from them meanwhile would be more than a process may have.
func (g *gate) accept(t *testing.T) {
	for {
		g.wait()
		c, err := g.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Errorf("a gate: %v", err)
			return
		}
		go g.join(c)
	}
}

func (g *gate) join(a net.Conn) {
	g.wait()
	b, err := net.Dial("tcp", g.to)
	if err != nil {
		_ = a.Close()
		return
	}
	g.mu.Lock()
	g.conns[a], g.conns[b] = struct{}{}, struct{}{}
	g.mu.Unlock()
	go g.copy(a, b)
	g.copy(b, a)
}

func (g *gate) wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut && !g.ended {
		g.cond.Wait()
	}
}

func (g *gate) copy(to, from net.Conn) {
	defer func() {
		_, _ = to.Close(), from.Close()
		g.mu.Lock()
		delete(g.conns, to)
		delete(g.conns, from)
		g.mu.Unlock()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		g.wait()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil && err != io.EOF || n == 0 {
			return
		}
	}
}

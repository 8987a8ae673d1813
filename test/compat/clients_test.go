package compat

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// quickly bounds an answer while somebody else misbehaves. It is milliseconds on an idle machine;
// wg itself would wait for ever.
const quickly = 5 * time.Second

// undisturbed runs misbehave while a ping goes through the tunnel every few milliseconds and wg
// asks again and again, and fails when either has to wait.
func undisturbed(t *testing.T, p *pair, misbehave func()) {
	t.Helper()
	flood := p.a.inner.Start(t, "ping", "-q", "-i", "0.005", "-w", "60", innerB)
	done := make(chan struct{})
	go func() {
		defer close(done)
		misbehave()
	}()
	asked, slowest := 0, time.Duration(0)
	for going := true; going; asked++ {
		start := time.Now()
		if out, err := p.a.tryWG("", "show", p.a.name); err != nil || !strings.Contains(out, "latest handshake") {
			t.Fatalf("wg show: %q (%v)", out, err)
		}
		slowest = max(slowest, time.Since(start))
		select {
		case <-done:
			going = false
		default:
		}
	}
	if slowest > quickly {
		t.Errorf("the slowest of %d answers took %v", asked, slowest)
	}
	_ = flood.Stop(os.Interrupt, limit)
	var sent, received int
	_, summary, _ := strings.Cut(flood.Output(), "statistics ---\n")
	// Some are under way.
	if _, err := fmt.Sscanf(summary, "%d packets transmitted, %d received", &sent, &received); err != nil || received < sent-5 {
		t.Errorf("ping meanwhile: %s", flood.Output())
	}
	t.Logf("%d answers meanwhile, the slowest took %v", asked, slowest)
}

func TestClients_thatMisbehaveDisturbNobody(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	mustPing(t, p.a.inner, innerB)
	dial := func() net.Conn {
		conn, err := net.Dial("unix", p.a.socket())
		if err != nil {
			return nil // too many at once: EAGAIN
		}
		return conn
	}
	t.Run("10,000 connections", func(t *testing.T) {
		undisturbed(t, p, func() {
			var open []net.Conn
			for range 10_000 {
				if conn := dial(); conn != nil {
					open = append(open, conn)
				}
			}
			for _, conn := range open {
				_ = conn.Close()
			}
			if len(open) < 5_000 {
				t.Errorf("only %d connections could be made", len(open))
			}
		})
	})
	t.Run("stopped half-way", func(t *testing.T) {
		undisturbed(t, p, func() {
			for i := range 500 {
				if conn := dial(); conn != nil {
					_, _ = io.WriteString(conn, "set=1\nprivate_key=0000000000000000000000000000000000000000000000000000000000000000\n"[:6+i%70])
					defer func() { _ = conn.Close() }()
				}
			}
			start := time.Now() // and let them sit there for a while
			testnet.Await(t, "a while", limit, func() bool { return time.Since(start) > time.Second })
		})
		if p.a.peers()[p.b.key.Public()].handshake == 0 {
			t.Error("half a request changed something")
		}
	})
	t.Run("garbage", func(t *testing.T) {
		before := p.a.wg("showconf")
		undisturbed(t, p, func() {
			random := rand.NewChaCha8([32]byte{1})
			garbage := make([]byte, 64<<10)
			for range 300 {
				_, _ = random.Read(garbage)
				if conn := dial(); conn != nil {
					_ = conn.SetDeadline(time.Now().Add(limit))
					_, _ = conn.Write(append([]byte("set=1\n"), garbage...))
					_ = conn.Close()
				}
			}
		})
		if after := p.a.wg("showconf"); after != before {
			t.Errorf("before garbage:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestClient_manyRequestsOnOneConnection(t *testing.T) {
	t.Parallel()
	d := start(t, testnet.New(t), testnet.Tund(t))
	conn, err := net.Dial("unix", d.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for range 100 {
		for request, want := range map[string]string{
			"set=1\nlisten_port=51820\n\n": "errno=0\n\n", "set=1\nlisten_port=x\nfwmark=7\n\n": "errno=-22\n\n",
			"get=1\n\n": "listen_port=51820\nerrno=0\n\n", "set=1\nfwmark=\n\n": "errno=0\n\n",
		} {
			if got, err := converse(conn, request); err != nil || got != want && !strings.HasPrefix(request, "get") {
				t.Fatalf("%q is answered with %q (%v), want %q", request, got, err, want)
			}
		}
	}
	// Several requests at once are answered in turn.
	if _, err := io.WriteString(conn, "get=1\n\nset=1\nx\n\nget=1\n\n"); err != nil {
		t.Fatal(err)
	}
	want := "listen_port=51820\nerrno=0\n\nerrno=-71\n\nlisten_port=51820\nerrno=0\n\n"
	buf := make([]byte, len(want))
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != want {
		t.Errorf("three requests are answered with %q (%v), want %q", buf, err, want)
	}
}

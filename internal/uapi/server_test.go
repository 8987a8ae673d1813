package uapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/unixsock/unixsocktest"
	"tund/tunnel"
)

// limit bounds what takes microseconds on an idle machine.
const limit = 20 * time.Second

// fake is a device without a tunnel.
type fake struct {
	mu     sync.Mutex
	device Device
	sets   []Request
	err    error
}

func (f *fake) Get() Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.device
}

func (f *fake) Set(r Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets = append(f.sets, r)
	return f.err
}

// serve runs a server for f in a new directory until the test ends.
func serve(t *testing.T, f *fake) *Server {
	t.Helper()
	return serveIn(t, f, filepath.Join(unixsocktest.Dir(t), "wireguard"))
}

func serveIn(t *testing.T, f *fake, dir string) *Server {
	t.Helper()
	s, err := Listen(Options{Dir: dir, Device: "wg0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(f)
	}()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		<-done
	})
	return s
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	return conn
}

// say sends a request and returns the answer.
func say(t *testing.T, conn net.Conn, request string) string {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	var answer strings.Builder
	buf := make([]byte, 4096)
	for !strings.HasSuffix(answer.String(), "\n\n") {
		n, err := conn.Read(buf)
		answer.Write(buf[:n])
		if err != nil {
			return answer.String() + "(" + err.Error() + ")"
		}
	}
	return answer.String()
}

func TestServer_answers(t *testing.T) {
	t.Parallel()
	f := &fake{device: Device{ListenPort: 7}}
	s := serve(t, f)
	conn := dial(t, s.Path())
	tests := []struct {
		request, want string
		err           error
	}{
		{"get=1\n\n", "listen_port=7\nerrno=0\n\n", nil},
		{"get=1\n?", "errno=22\n\n", nil},
		{"set=1\n\n", "errno=0\n\n", nil},
		{"set=1\nlisten_port=\n\n", "errno=-22\n\n", nil},
		{"set=1\nx\n\n", "errno=-71\n\n", nil},
		{"set=1\n\n", "errno=-98\n\n", ErrInUse("in use")},
		{"set=1\n\n", "errno=-22\n\n", fmt.Errorf("wrapped: %w", ErrInvalid("invalid"))},
		{"set=1\n\n", "errno=-55\n\n", errors.New("anything else")},
		{"get=1\n\n", "listen_port=7\nerrno=0\n\n", nil},
	}
	for _, tt := range tests {
		f.mu.Lock()
		f.err = tt.err
		f.mu.Unlock()
		if got := say(t, conn, tt.request); got != tt.want {
			t.Errorf("%q (error %v) is answered with %q, want %q", tt.request, tt.err, got, tt.want)
		}
	}
	if got := say(t, conn, "hello\n"); got != "(EOF)" {
		t.Errorf("an unknown operation is answered with %q, want the end", got)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sets) != 4 {
		t.Errorf("Set was called %d times, want 4: a request with a fault is not applied", len(f.sets))
	}
}

// A client reads the answer with one call.
func TestServer_answersInOneWrite(t *testing.T) {
	t.Parallel()
	f := &fake{}
	for i := range 1000 {
		f.device.Peers = append(f.device.Peers, tunnel.PeerStatus{PublicKey: key32(byte(i))})
	}
	s := serve(t, f)
	want := len(appendErrno(appendGet(nil, f.device), 0))
	conn := dial(t, s.Path())
	if _, err := io.WriteString(conn, "get=1\n\n"); err != nil {
		t.Fatal(err)
	}
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	first := 0
	// Ready with the first byte: is the last one there, too?.
	if err := raw.Read(func(fd uintptr) bool {
		first, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		return first > 0
	}); err != nil {
		t.Fatal(err)
	}
	if first < min(want, 32<<10) { // what is larger than the kernel's pieces comes in several
		t.Errorf("the first bytes to come were %d of %d", first, want)
	}
}

func TestServer_noticesWhenItsFileGoes(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(path string) error{
		"deleted":  os.Remove,
		"moved":    func(path string) error { return os.Rename(path, path+".old") },
		"replaced": func(path string) error { return os.WriteFile(path+".new", nil, 0o600) },
		"with its directory": func(path string) error {
			return os.RemoveAll(filepath.Dir(path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &fake{})
			if err := remove(s.Path()); err != nil {
				t.Fatal(err)
			}
			if name == "replaced" {
				select {
				case <-s.Removed():
					t.Fatal("removed, after a file beside it was made")
				default:
				}
				if err := os.Rename(s.Path()+".new", s.Path()); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case <-s.Removed():
			case <-time.After(limit):
				t.Error("not noticed")
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(s.Path()); (err == nil) != (name == "replaced") {
				t.Errorf("the path after Close: %v; what somebody else put there has to stay", err)
			}
		})
	}
}

func TestServer_closeRemovesTheSocketAndEndsConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{})
	conn := dial(t, s.Path())
	if got := say(t, conn, "get=1\n\n"); got != "errno=0\n\n" {
		t.Fatal(got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after Close: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived Close")
	}
	select {
	case <-s.Removed():
		t.Error("removed by somebody else, it says")
	default:
	}
}

func TestServer_anIdleConnectionMakesRoom(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{})
	for i := range 3 * maxConns {
		conn := dial(t, s.Path())
		if i%2 == 0 {
			_, _ = io.WriteString(conn, "set=1\nfwmark=1\n") // half a request
		}
		if i%100 == 99 {
			if got := say(t, dial(t, s.Path()), "get=1\n\n"); got != "errno=0\n\n" {
				t.Fatalf("after %d idle connections get is answered with %q", i+1, got)
			}
		}
	}
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	if n := len(s.conns.open); n > maxConns {
		t.Errorf("%d connections are served, want at most %d", n, maxConns)
	}
}

// A connection that has sent something is not taken for silent because nobody had the time to read
// it.
func TestConnections_inputThatWaitsProtects(t *testing.T) {
	t.Parallel()
	early := &connection{}
	client, server := socketPair(t)
	early.UnixConn = server
	_, _ = io.WriteString(client, "get")
	now := time.Now()
	var cs connections
	cs.init()
	cs.add(early, now)
	late := now.Add(time.Hour)
	for range maxConns - 1 {
		_, quiet := socketPair(t)
		cs.add(&connection{UnixConn: quiet}, now)
	}
	_, more := socketPair(t)
	if wait := cs.add(&connection{UnixConn: more}, late); wait != 0 {
		t.Errorf("no place, wait %v", wait)
	}
	if !cs.open[early] {
		t.Error("the connection with a request was given up, not an idle one")
	}
}

// A request that is sent a byte at a time does not keep a place from those who wait for one.
func TestConnection_aByteAtATimeIsNoProgress(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t)
	c := &connection{UnixConn: server}
	c.await(false)
	var first time.Time
	for i := range 3 {
		_, _ = io.WriteString(client, "s")
		if _, err := c.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		at, ok := c.evictable()
		if i == 0 {
			first = at
		}
		if !ok || at != first {
			t.Errorf("after %d bytes its place may be taken at %v (%t), want %v", i+1, at, ok, first)
		}
	}
}

func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conns[0], conns[1]
}

// Running out of descriptors must not end the socket.
func TestServe_survivesErrorsOfAccept(t *testing.T) {
	t.Parallel()
	dir := unixsocktest.Dir(t)
	s, err := Listen(Options{Dir: dir, Device: "wg0"})
	if err != nil {
		t.Fatal(err)
	}
	s.listener = &flakyListener{unixListener: s.listener, failures: 5}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(&fake{})
	}()
	for range 20 {
		if got := say(t, dial(t, s.Path()), "get=1\n\n"); got != "errno=0\n\n" {
			t.Fatalf("get is answered with %q", got)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

// flakyListener fails for want of descriptors at first.
type flakyListener struct {
	unixListener
	failures int
}

// AcceptUnix implements unixListener.
func (l *flakyListener) AcceptUnix() (*net.UnixConn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, unix.EMFILE
	}
	return l.unixListener.AcceptUnix()
}

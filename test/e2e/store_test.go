package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fdStore is a service manager that keeps descriptors between two processes of a service, as
// systemd does (sd_notify(3), FDSTORE=1).
type fdStore struct {
	t    *testing.T
	g    *gateway
	conn *net.UnixConn

	mu    sync.Mutex // guards what follows
	names []string
	files []*os.File
}

// storeFor makes one for the service of g.
func storeFor(t *testing.T, g *gateway) *fdStore {
	t.Helper()
	path := filepath.Join(g.Dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	s := &fdStore{t: t, g: g, conn: conn}
	t.Cleanup(func() {
		_ = conn.Close()
		s.empty()
	})
	go s.serve()
	g.Wrap = []string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}
	s.ready()
	return s
}

// settle returns when everything that was sent to the store is in it. A descriptor that still waits
// in the socket keeps its device alive. The service manager, too, reads what a process has sent
// before it learns that the process has ended.
func (s *fdStore) settle() {
	s.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	_, _, err = s.conn.WriteMsgUnix([]byte("BARRIER=1"), unix.UnixRights(int(w.Fd())), s.conn.LocalAddr().(*net.UnixAddr))
	_ = w.Close()
	if err == nil {
		_ = r.SetReadDeadline(time.Now().Add(startLimit))
		_, err = r.Read(make([]byte, 1))
	}
	if !errors.Is(err, io.EOF) {
		s.t.Fatalf("the store reads what was sent to it: %v", err)
	}
}

// ready prepares the next start of g with what is in the store.
func (s *fdStore) ready() {
	s.settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.g.Env = []string{"NOTIFY_SOCKET=" + filepath.Join(s.g.Dir, "notify")}
	s.g.Files = s.files
	if len(s.files) > 0 {
		s.g.Env = append(s.g.Env, "LISTEN_FDS="+strconv.Itoa(len(s.files)), "LISTEN_FDNAMES="+strings.Join(s.names, ":"))
	}
}

// serve answers until the socket is closed.
func (s *fdStore) serve() {
	buf, oob := make([]byte, 4096), make([]byte, 1024)
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		var fds []int
		if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(messages) > 0 {
			fds, _ = unix.ParseUnixRights(&messages[0])
		}
		s.message(string(buf[:n]), fds)
	}
}

func (s *fdStore) message(text string, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, name, _ := strings.Cut(text, "FDNAME=")
	switch {
	case strings.HasPrefix(text, "FDSTORE=1\n"):
		for _, fd := range fds {
			s.names = append(s.names, name)
			s.files = append(s.files, os.NewFile(uintptr(fd), name))
		}
		return
	case strings.HasPrefix(text, "FDSTOREREMOVE=1\n"):
		for i := len(s.names) - 1; i >= 0; i-- {
			if s.names[i] == name {
				_ = s.files[i].Close()
				s.names, s.files = append(s.names[:i:i], s.names[i+1:]...), append(s.files[:i:i], s.files[i+1:]...)
			}
		}
	}
	for _, fd := range fds { // BARRIER=1
		_ = unix.Close(fd)
	}
}

// stored returns the names of what is in the store.
func (s *fdStore) stored() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.names...)
}

// drop empties the store, as when the service is stopped.
func (s *fdStore) drop() {
	s.settle()
	s.empty()
}

func (s *fdStore) empty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		_ = f.Close()
	}
	s.names, s.files = nil, nil
}

// stop is the first half of a restart: what tund@.service has systemd do before SIGTERM and after
// the end.
func (s *fdStore) stop() {
	s.t.Helper()
	s.g.Process.Signal(syscall.SIGUSR1)
	time.Sleep(time.Millisecond) // signals of one process have no order of their own
	s.g.Stop()
	s.cleanup("success")
}

func (s *fdStore) cleanup(result string) {
	s.t.Helper()
	command := s.g.Command()
	command = command[4 : len(command)-2] // without the shell in front and the configuration
	command = append(append([]string{"env", "SERVICE_RESULT=" + result}, command...), "--cleanup", s.g.Name)
	if out, err := s.g.NS.Try(command...); err != nil {
		s.t.Errorf("cleanup after %s: %v\n%s", result, err, out)
	}
}

// restart is `systemctl restart`.
func (s *fdStore) restart() {
	s.t.Helper()
	s.stop()
	s.ready()
	s.g.start()
}

// waits has the kernel keep more packets for a device than its usual 500, which a thousand pings a
// second fill when a restart takes longer than half a second, on a machine that many tests share.
func waits(t *testing.T, g *gateway, device string) {
	t.Helper()
	g.NS.Run(t, "ip", "link", "set", device, "txqueuelen", "20000")
}

func TestRestart_losesNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.b.tunnel = append(p.b.tunnel, "lanes = 2")
	store := storeFor(t, p.b)
	before := p.b.NS.Snapshot()
	p.start()
	ping(t, p.a.NS, "10.9.0.2", 3)
	waits(t, p.b, p.b.Name)
	during := p.b.NS.Snapshot()
	index := p.b.NS.Run(t, "cat", "/sys/class/net/"+p.b.Name+"/ifindex")
	shakes := p.a.Peer("berlin").Handshake
	there, back := startPing(t, p.a.NS, "10.9.0.2", time.Millisecond), startPing(t, p.b.NS, "10.9.0.1", time.Millisecond)
	for range 3 {
		there.goesOn("before the restart", startLimit)
		store.restart()
		if left := store.stored(); len(left) > 0 {
			t.Errorf("the store still has %q", left)
		}
	}
	there.goesOn("after the last restart", startLimit)
	there.wantNoLoss()
	back.wantNoLoss()
	if after := p.b.NS.Snapshot(); after != during {
		t.Errorf("after the restarts the kernel has\n%swant\n%s", after, during)
	}
	if now := p.b.NS.Run(t, "cat", "/sys/class/net/"+p.b.Name+"/ifindex"); now != index {
		t.Errorf("the device is another: %s instead of %s", now, index)
	}
	if now := p.a.Peer("berlin").Handshake; now != shakes {
		t.Errorf("handshakes: %+v, were %+v", now, shakes)
	}
	if n := p.b.Lines("continuing where the last process ended", `"sessions": 1`); n != 1 {
		t.Errorf("%d lines about the sessions, want 1", n)
	}
	p.b.Stop()
	if left := store.stored(); len(left) > 0 {
		t.Errorf("a stop stores %q", left)
	}
	if after := p.b.NS.Snapshot(); after != before {
		t.Errorf("after the stop the kernel has\n%swant\n%s", after, before)
	}
}

func TestRestart_afterWhichSomethingDiffers(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	store := storeFor(t, p.b)
	before := p.b.NS.Snapshot()
	p.start()
	ping(t, p.a.NS, "10.9.0.2", 3)
	works := func(what string, words ...string) {
		t.Helper()
		ping(t, p.b.NS, "10.9.0.1", 3) // from the side that was restarted: the other does not know
		if len(words) > 0 && p.b.Lines(words...) == 0 {
			t.Errorf("%s: the log does not say %q:\n%s", what, words, p.b.Process.Output())
		}
	}

	// Another address: the device is recreated, since the kernel would keep the old one.
	p.b.addresses = []string{"10.9.0.2/24", "10.9.0.3/32"}
	p.b.write()
	store.restart()
	works("another address", "the devices have changed, and are recreated")
	if addrs := p.b.NS.Snapshot(); !strings.Contains(addrs, "10.9.0.3/32") || strings.Contains(addrs, "fd09::2") {
		t.Errorf("the kernel has\n%s", addrs)
	}
	// An address of the last process goes with the configuration that no longer has it.
	store.restart()
	works("the same addresses", "continuing where the last process ended")
	p.b.addresses = []string{"10.9.0.2/24"}
	p.b.write()
	if err := p.b.Client().Reload(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if addrs := p.b.NS.Snapshot(); strings.Contains(addrs, "10.9.0.3/32") {
		t.Errorf("after a reload without 10.9.0.3 the kernel has\n%s", addrs)
	}
	// Another number of lanes: device and sockets are reopened, sessions go on.
	p.b.tunnel = append(p.b.tunnel, "lanes = 2")
	p.b.write()
	store.restart()
	works("more lanes", "the device is recreated")
	works("more lanes", "the UDP sockets are reopened")
	works("more lanes", "continuing where the last process ended")
	// A crash leaves nothing to continue.
	p.b.Kill()
	if left := store.stored(); len(left) > 0 {
		t.Errorf("a killed process leaves %q in the store", left)
	}
	store.cleanup("signal")
	store.ready()
	p.b.start()
	works("after SIGKILL")
	// Sessions are taken once, even if the manager keeps them.
	store.stop()
	store.mu.Lock()
	var again *os.File
	for i, name := range store.names {
		if name == "tund-sessions" {
			fd, err := unix.Dup(int(store.files[i].Fd()))
			if err != nil {
				t.Fatal(err)
			}
			again = os.NewFile(uintptr(fd), name)
		}
	}
	store.mu.Unlock()
	store.ready()
	p.b.start()
	works("continued", "continuing where the last process ended")
	p.b.Kill()
	store.cleanup("signal")
	store.mu.Lock()
	store.names, store.files = []string{"tund-sessions"}, []*os.File{again}
	store.mu.Unlock()
	store.ready()
	p.b.start()
	works("sessions of before the crash", "it was used before")
	// A stop that the service manager does not confirm is an ordinary stop.
	if err := store.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	store.stop()
	store.cleanup("signal")
	if out, err := p.b.NS.Try("ip", "link", "show", p.b.Name); err == nil {
		t.Errorf("the device stays:\n%s", out)
	}
	p.b.Env = nil
	p.b.Files = nil
	p.b.start()
	works("without a store")
	p.b.Stop()
	if after := p.b.NS.Snapshot(); after != before {
		t.Errorf("in the end the kernel has\n%swant\n%s", after, before)
	}
}

package sdnotify

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// storeManager is the socket of a service manager.
func storeManager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// message reads one message with its descriptors.
func message(t *testing.T, conn *net.UnixConn) (text string, fds []int) {
	t.Helper()
	buf, oob := make([]byte, 1000), make([]byte, 1000)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(list) > 0 {
		if fds, err = unix.ParseUnixRights(&list[0]); err != nil {
			t.Fatal(err)
		}
	}
	return string(buf[:n]), fds
}

func TestStore_sendsDescriptorsAndWaitsForTheManager(t *testing.T) {
	conn := storeManager(t)
	n, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.WriteString("stored"); err != nil {
		t.Fatal(err)
	}
	if err := n.Store([]Descriptor{{"one", int(file.Fd())}}); err != nil {
		t.Fatal(err)
	}
	text, fds := message(t, conn)
	if !strings.HasPrefix(text, "FDSTORE=1\n") || !slices.Contains(strings.Split(text, "\n"), "FDNAME=one") ||
		!strings.Contains(text, "FDPOLL=0") || len(fds) != 1 {
		t.Fatalf("%q with %d descriptors", text, len(fds))
	}
	got := make([]byte, 10)
	if n, err := unix.Pread(fds[0], got, 0); err != nil || string(got[:n]) != "stored" {
		t.Errorf("the descriptor reads %q, %v", got[:n], err)
	}
	_ = unix.Close(fds[0])
	if err := n.Forget([]string{"two", "one", "two"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FDSTOREREMOVE=1\nFDNAME=one", "FDSTOREREMOVE=1\nFDNAME=two"} {
		if text, _ := message(t, conn); text != want {
			t.Errorf("%q, want %q", text, want)
		}
	}
	if err := n.Barrier(time.Millisecond); err == nil {
		t.Error("a barrier that nobody lifts is passed")
	}
	_, fds = message(t, conn)
	_ = unix.Close(fds[0])
	done := make(chan error, 1)
	go func() { done <- n.Barrier(10 * time.Second) }()
	text, fds = message(t, conn)
	if text != "BARRIER=1" || len(fds) != 1 {
		t.Fatalf("%q with %d descriptors", text, len(fds))
	}
	_ = unix.Close(fds[0])
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStore_withoutAManagerFails(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, _ := FromEnvironment()
	if n.Store(nil) == nil || n.Forget([]string{"x"}) == nil || n.Barrier(time.Second) == nil {
		t.Error("no error without a service manager")
	}
}

func TestInherited_onlyWhatIsMeantForUs(t *testing.T) {
	for _, c := range []struct{ fds, pid, names string }{
		{"", "", ""}, {"1", "1", "a"}, {"x", strconv.Itoa(os.Getpid()), "a"}, {"-1", strconv.Itoa(os.Getpid()), ""},
		{"1000000", strconv.Itoa(os.Getpid()), ""},
	} {
		t.Setenv("LISTEN_FDS", c.fds)
		t.Setenv("LISTEN_PID", c.pid)
		t.Setenv("LISTEN_FDNAMES", c.names)
		if list := Inherited(); len(list) > 0 {
			t.Errorf("%+v: %v", c, list)
		}
		if os.Getenv("LISTEN_FDS") != "" || os.Getenv("LISTEN_PID") != "" || os.Getenv("LISTEN_FDNAMES") != "" {
			t.Errorf("%+v: the variables stay", c)
		}
	}
}

package sdnotify

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// manager is the service manager's end.
func manager(t *testing.T, name string) func() string {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return func() string {
		b := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestNotifier_sendsEachMessageOverPathAndAbstractSockets(t *testing.T) {
	for _, name := range []string{
		filepath.Join(t.TempDir(), "notify"),
		fmt.Sprintf("@tund-sdnotify-test-%d", os.Getpid()),
	} {
		read := manager(t, name)
		n, err := FromEnvironment()
		if err != nil {
			t.Fatal(err)
		}
		steps := []struct {
			name string
			call func() error
			want string
		}{
			{"ready", func() error { return n.Ready("") }, `READY=1`},
			{"ready with status", func() error { return n.Ready("2/3 peers up") }, `READY=1\nSTATUS=2/3 peers up`},
			{"reloading", n.Reloading, `RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*`},
			{"stopping", n.Stopping, `STOPPING=1`},
			{"status", func() error { return n.Status("a\nWATCHDOG=1") }, `STATUS=a WATCHDOG=1`},
			{"empty status", func() error { return n.Status("") }, `STATUS=`},
			{"watchdog", n.Watchdog, `WATCHDOG=1`},
		}
		for _, step := range steps {
			if err := step.call(); err != nil {
				t.Errorf("%s over %s: %v", step.name, name, err)
				continue
			}
			if got := read(); !regexp.MustCompile(`^` + step.want + `$`).MatchString(got) {
				t.Errorf("%s over %s: got %q, want %q", step.name, name, got, step.want)
			}
		}
	}
}

func TestFromEnvironment_isSilentWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := FromEnvironment()
	if n != nil || err != nil {
		t.Fatalf("FromEnvironment() = %v, %v; want nil, nil", n, err)
	}
	for _, err := range []error{n.Ready("x"), n.Reloading(), n.Stopping(), n.Status("x"), n.Watchdog()} {
		if err != nil {
			t.Errorf("silent notifier: %v", err)
		}
	}
}

func TestFromEnvironment_refusesWhatItCannotReach(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "vsock:2:1234")
	if _, err := FromEnvironment(); err == nil {
		t.Error("vsock address: got no error")
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	n, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if n.Stopping() == nil {
		t.Error("nobody listens: got no error")
	}
}

func TestWatchdogInterval_isHalfOfWhatSystemdAllows(t *testing.T) {
	own, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getpid()+1)
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"20000000", own, 10 * time.Second},
		{"20000000", "", 10 * time.Second},
		{"20000000", other, 0},
		{"", own, 0},
		{"-1", own, 0},
		{"99999999999999999999", own, 0},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got := WatchdogInterval(); got != c.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: got %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}

package udp

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// A mistake that other implementations made: no IPv6, no start.
func TestOpen_hostWithoutIPv6(t *testing.T) {
	ns := testnet.New(t)
	for _, scope := range []string{"all", "default", "lo"} {
		_, _ = ns.Try("sysctl", "-qw", "net.ipv6.conf."+scope+".disable_ipv6=1")
	}
	a, b := openIn(t, ns, Options{}), openIn(t, ns, Options{})
	sendOne(a, loopback(b, "127.0.0.1"), 3000, 1000)
	if got, _, _ := receiveAll(t, b, 3000); len(got) != 3000 {
		t.Errorf("received %d bytes", len(got))
	}
	if r := sendOne(a, loopback(b, "::1"), 10, 0); r.Err == nil {
		t.Error("sent to ::1 without IPv6")
	}
	for err, want := range map[error]bool{
		unix.EAFNOSUPPORT: true, unix.EADDRNOTAVAIL: true, unix.EADDRINUSE: false, unix.EPERM: false,
	} {
		if got := lacksIPv6(fmt.Errorf("open udp socket: %w", err)); got != want {
			t.Errorf("%v means no IPv6: got %v", err, got)
		}
	}
	c := mustOpen(t, Options{IPv4Only: true})
	if r := sendOne(c, loopback(b, "2001:db8::1"), 10, 0); r.Err != unix.EAFNOSUPPORT {
		t.Errorf("IPv6 over an IPv4 socket: %v, want EAFNOSUPPORT", r.Err)
	}
}

func TestOpen_portInUseLeavesNothingOpen(t *testing.T) {
	s := mustOpen(t, Options{})
	before := countDescriptors(t)
	for range 5 {
		if _, err := Open(Options{Port: s.Port()}); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("got %v, want EADDRINUSE", err)
		}
	}
	if after := countDescriptors(t); after > before {
		t.Errorf("descriptors: %d before, %d after", before, after)
	}
}

func TestOpen_lanesShareAPort(t *testing.T) {
	a := mustOpen(t, Options{ReusePort: true})
	b := mustOpen(t, Options{ReusePort: true, Port: a.Port()})
	if a.Port() != b.Port() {
		t.Errorf("ports %d and %d", a.Port(), b.Port())
	}
}

// countDescriptors counts this process' sockets.
func countDescriptors(t testing.TB) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if link, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(link, "socket:") {
			n++
		}
	}
	return n
}

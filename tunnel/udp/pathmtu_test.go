package udp

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// narrowPath makes a way from here by a router to there, whose second link takes packets of at most
// 1,300 bytes. wide makes it take 1,500, without anybody here being told.
func narrowPath(t *testing.T) (here, there *testnet.NS, wide func()) {
	t.Helper()
	here, router, there := testnet.New(t), testnet.New(t), testnet.New(t)
	testnet.Veth(t, here, router, []string{"192.0.2.1/24", "2001:db8:1::1/64"}, []string{"192.0.2.2/24", "2001:db8:1::2/64"})
	near, far := testnet.Veth(t, router, there, []string{"198.51.100.2/24", "2001:db8:2::2/64"}, []string{"198.51.100.1/24", "2001:db8:2::1/64"})
	router.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for _, via := range []string{"192.0.2.2", "2001:db8:1::2"} {
		here.Run(t, "ip", "route", "add", "default", "via", via)
	}
	for _, via := range []string{"198.51.100.2", "2001:db8:2::2"} {
		there.Run(t, "ip", "route", "add", "default", "via", via)
	}
	set := func(mtu string) {
		router.Run(t, "ip", "link", "set", near, "mtu", mtu)
		there.Run(t, "ip", "link", "set", far, "mtu", mtu)
	}
	set("1300")
	return here, there, func() { set("1500") }
}

// receiveBytes receives at s until it has n bytes, all of datagrams of at most size bytes.
func receiveBytes(t *testing.T, s *Socket, n, size int) {
	t.Helper()
	timer := time.AfterFunc(5*time.Second, func() { _ = s.Close() })
	defer timer.Stop()
	ts := trains(8)
	for n > 0 {
		k, err := s.Receive(ts, true)
		if err != nil {
			t.Fatalf("%d bytes did not arrive in 5 s", n)
		}
		for _, tr := range ts[:k] {
			n -= tr.N
			if tr.Segment > size {
				t.Errorf("a datagram of %d bytes, want %d", tr.Segment, size)
			}
		}
	}
	if n < 0 {
		t.Errorf("%d bytes too many", -n)
	}
}

// IPv4 leaves without DF: a router whose link is narrower cuts it, and nothing is lost if it may
// not tell. A path MTU that the kernel has learned for the destination, from that router or from a
// forger, neither cuts nor refuses anything.
func TestSocket_pathMTUOfTheKernelDoesNotBind(t *testing.T) {
	for _, peer := range []string{"198.51.100.1", "2001:db8:2::1"} {
		t.Run(peer, func(t *testing.T) {
			t.Parallel()
			here, there, wide := narrowPath(t)
			a, b := openIn(t, here, Options{}), openIn(t, there, Options{})
			told := 0
			a.OnICMP(func(ICMPReport) { told++ })
			to := loopback(b, peer)
			if to.Addr.Addr().Is4() {
				if r := sendOne(a, to, 1400, 0); r.Err != nil {
					t.Error(r.Err)
				}
				if r := sendOne(a, to, 10*1400, 1400); r.Err != nil {
					t.Error(r.Err)
				}
				receiveBytes(t, b, 11*1400, 1400)
			}
			if out, err := here.Try("ping", "-c1", "-W1", "-M", "do", "-s", "1400", peer); err == nil {
				t.Fatalf("a packet of more than 1,400 bytes passed a link of 1300: %s", out)
			}
			if out := here.Run(t, "ip", "route", "get", peer); !strings.Contains(out, "mtu 1300") {
				t.Fatalf("the kernel did not learn the path MTU: %s", out)
			}
			wide()
			for range 3 {
				if r := sendOne(a, to, 10*1432, 1432); r.Err != nil || r.Sent != 10 {
					t.Errorf("%d sent: %v", r.Sent, r.Err)
				}
				receiveBytes(t, b, 10*1432, 1432)
			}
			if refused := a.Features().Fallbacks; refused != 0 || told != 0 {
				t.Errorf("%d runs were sent as single datagrams, %d reports; want none", refused, told)
			}
		})
	}
}

// What exceeds the MTU of our own interface is fragmented here, as single datagrams.
func TestSocket_fragmentsWhatTheInterfaceDoesNotTake(t *testing.T) {
	for _, peer := range []string{"192.0.2.2", "2001:db8::2"} {
		t.Run(peer, func(t *testing.T) {
			t.Parallel()
			here, there := testnet.New(t), testnet.New(t)
			link, _ := testnet.Veth(t, here, there, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
			here.Run(t, "ip", "link", "set", link, "mtu", "1400")
			a, b := openIn(t, here, Options{}), openIn(t, there, Options{})
			for _, n := range []int{1, 5} {
				if r := sendOne(a, loopback(b, peer), n*1432, 1432); r.Err != nil || r.Sent != n {
					t.Errorf("%d of %d sent: %v", r.Sent, n, r.Err)
				}
				receiveBytes(t, b, n*1432, 1432)
			}
		})
	}
}

// A run with DontFragment does not pass a link that is narrower, nor leave by an interface that is;
// what is sent before and afterwards is fragmented as always.
func TestSocket_dontFragmentIsForOneRun(t *testing.T) {
	for _, peer := range []string{"198.51.100.1", "2001:db8:2::1"} {
		t.Run(peer, func(t *testing.T) {
			t.Parallel()
			here, there, _ := narrowPath(t)
			a, b := openIn(t, here, Options{}), openIn(t, there, Options{})
			to := loopback(b, peer)
			whole := func(n int) Run {
				runs := []Run{{Buf: make([]byte, n), Segment: n, To: to, DontFragment: true}}
				a.NewSender().Send(runs)
				return runs[0]
			}
			if to.Addr.Addr().Is4() {
				if r := sendOne(a, to, 1400, 0); r.Err != nil {
					t.Error(r.Err)
				}
				receiveBytes(t, b, 1400, 1400)
			}
			for range 3 { // the second answers nothing that ICMP said of the first
				if r := whole(1400); r.Err != nil || r.Sent != 1 {
					t.Errorf("%d sent: %v", r.Sent, r.Err)
				}
			}
			if r := whole(1600); r.Err != unix.EMSGSIZE {
				t.Errorf("larger than the interface: %v", r.Err)
			}
			if r := whole(1200); r.Err != nil || r.Sent != 1 {
				t.Errorf("what fits: %d sent: %v", r.Sent, r.Err)
			}
			receiveBytes(t, b, 1200, 1200) // nothing of 1,400 came before
			if to.Addr.Addr().Is4() {
				if r := sendOne(a, to, 1400, 0); r.Err != nil {
					t.Error(r.Err)
				}
				receiveBytes(t, b, 1400, 1400)
			}
		})
	}
}

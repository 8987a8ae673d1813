package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// openIn opens a socket inside ns.
func openIn(t testing.TB, ns *testnet.NS, o Options) *Socket {
	t.Helper()
	var s *Socket
	var err error
	ns.Do(func() { s, err = Open(o) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// receiveOne receives one train.
func receiveOne(t testing.TB, s *Socket) Train {
	t.Helper()
	ts := trains(1)
	if n, err := s.Receive(ts, true); n != 1 || err != nil {
		t.Fatalf("receive: %d, %v", n, err)
	}
	return ts[0]
}

// sendOne sends one run and returns it.
func sendOne(s *Socket, to Endpoint, size, segment int) Run {
	runs := []Run{{Buf: bytes.Repeat([]byte{0x5a}, size), Segment: segment, To: to}}
	s.NewSender().Send(runs)
	return runs[0]
}

func TestSocket_answersFromTheAddressThePeerSpokeTo(t *testing.T) {
	for _, v4only := range []bool{false, true} {
		t.Run(fmt.Sprintf("IPv4Only=%v", v4only), func(t *testing.T) {
			here, there := testnet.New(t), testnet.New(t)
			testnet.Veth(t, here, there,
				[]string{"192.0.2.1/24", "192.0.2.11/24", "198.51.100.1/24", "2001:db8::1/64", "2001:db8::11/64"},
				[]string{"192.0.2.2/24", "198.51.100.2/24", "2001:db8::2/64"})
			a, b := openIn(t, here, Options{IPv4Only: v4only}), openIn(t, there, Options{})
			if a.Features().IPv6 == v4only {
				t.Fatalf("IPv6: %v", a.Features().IPv6)
			}
			for _, local := range []string{"192.0.2.1", "192.0.2.11", "198.51.100.1", "2001:db8::1", "2001:db8::11"} {
				if v4only && strings.Contains(local, ":") {
					continue
				}
				if r := sendOne(b, loopback(a, local), 10, 0); r.Err != nil {
					t.Fatal(r.Err)
				}
				got := receiveOne(t, a)
				if got.From.Source.String() != local || got.From.Ifindex == 0 {
					t.Errorf("to %s: the endpoint says %+v", local, got.From)
				}
				for _, size := range []int{100, 5000} {
					if r := sendOne(a, got.From, size, 1000); r.Err != nil || r.SourceGone {
						t.Fatalf("answer: %+v", r)
					}
					if answer := receiveOne(t, b); answer.From.Addr.Addr().String() != local || answer.N != size {
						t.Errorf("to %s: answered by %v with %d bytes", local, answer.From.Addr, answer.N)
					}
				}
			}
		})
	}
}

func TestSocket_linkLocalPeer(t *testing.T) {
	here, there := testnet.New(t), testnet.New(t)
	name, _ := testnet.Veth(t, here, there, []string{"fe80::1/64"}, []string{"fe80::2/64"})
	a, b := openIn(t, here, Options{}), openIn(t, there, Options{})
	to := Endpoint{Addr: netip.AddrPortFrom(netip.MustParseAddr("fe80::2%"+name), b.Port())}
	to.Source = netip.MustParseAddr("fe80::1") // the kernel has made another one beside it
	if r := sendOne(a, to, 10, 0); r.Err != nil {
		t.Fatalf("by name: %v", r.Err)
	}
	got := receiveOne(t, b)
	if want := "fe80::1%" + fmt.Sprint(got.From.Ifindex); got.From.Addr.Addr().String() != want {
		t.Errorf("from %v, want %v", got.From.Addr, want)
	}
	if r := sendOne(b, got.From, 10, 0); r.Err != nil || r.SourceGone {
		t.Fatalf("answer: %+v", r)
	}
	if answer := receiveOne(t, a); answer.From.Addr.Addr().WithZone("").String() != "fe80::2" {
		t.Errorf("answered by %v", answer.From.Addr)
	}
	to.Addr = netip.AddrPortFrom(netip.MustParseAddr("fe80::2%nosuch"), b.Port())
	if r := sendOne(a, to, 10, 0); r.Err != unix.ENODEV {
		t.Errorf("by an interface that does not exist: %v, want ENODEV", r.Err)
	}
}

func TestSocket_sourceAddressThatLeftTheHost(t *testing.T) {
	here, there := testnet.New(t), testnet.New(t)
	name, _ := testnet.Veth(t, here, there,
		[]string{"192.0.2.1/24", "192.0.2.11/24", "2001:db8::1/64", "2001:db8::11/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	a, b := openIn(t, here, Options{}), openIn(t, there, Options{})
	for _, c := range []struct{ gone, stays, peer string }{
		{"192.0.2.11", "192.0.2.1", "192.0.2.2"}, {"2001:db8::11", "2001:db8::1", "2001:db8::2"},
	} {
		to := loopback(b, c.peer)
		to.Source = netip.MustParseAddr(c.gone)
		bits := "/24"
		if strings.Contains(c.gone, ":") {
			bits = "/64"
		}
		here.Run(t, "ip", "address", "delete", c.gone+bits, "dev", name)
		for segment, datagrams := range map[int]int{0: 1, 1000: 3} {
			r := sendOne(a, to, 2500, segment)
			if r.Err != nil || !r.SourceGone || r.Sent != datagrams {
				t.Errorf("%s: %v, gone %v, sent %d", c.gone, r.Err, r.SourceGone, r.Sent)
			}
			for got := 0; got < 2500; {
				tr := receiveOne(t, b)
				if tr.From.Addr.Addr().String() != c.stays {
					t.Errorf("came from %v, want %s", tr.From.Addr, c.stays)
				}
				got += tr.N
			}
		}
	}
	here.Run(t, "ip", "address", "flush", "dev", name)
	r := sendOne(a, loopback(b, "192.0.2.2"), 10, 0)
	if r.Err != unix.ENETUNREACH {
		t.Errorf("no address left: %v, want ENETUNREACH", r.Err)
	}
}

func TestSocket_runThatTheEgressDoesNotTake(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken []string
	}{
		{"no checksum offload", []string{"ethtool", "-K", "eth0", "tx-checksum-ip-generic", "off"}},
		{"smaller MTU", []string{"ip", "link", "set", "eth0", "mtu", "1300"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := testnet.New(t), testnet.New(t)
			testnet.Veth(t, here, there, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"})
			if out, err := here.Try(c.broken...); err != nil {
				t.Skipf("cannot make the device like that: %v %s", err, out)
			}
			a, b := openIn(t, here, Options{}), openIn(t, there, Options{})
			r := sendOne(a, loopback(b, "192.0.2.2"), 10*1400, 1400)
			if r.Err != nil || r.Sent != 10 {
				t.Fatalf("sent %d, %v; want 10", r.Sent, r.Err)
			}
			t.Logf("fallbacks %d, GSO still on: %v", a.Features().Fallbacks, a.Features().GSO)
			got, _, _ := receiveAll(t, b, 10*1400)
			if !bytes.Equal(got, r.Buf) {
				t.Error("payload differs")
			}
		})
	}
}

func TestSocket_firewallDropsOneReceiver(t *testing.T) {
	here, there := testnet.New(t), testnet.New(t)
	testnet.Veth(t, here, there, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24", "192.0.2.3/24"})
	here.Run(t, "nft", "add table ip f; add chain ip f out { type filter hook output priority 0; }; "+
		"add rule ip f out ip daddr 192.0.2.3 drop")
	a, b := openIn(t, here, Options{}), openIn(t, there, Options{})
	runs := []Run{
		{Buf: []byte("one"), To: loopback(b, "192.0.2.2")},
		{Buf: []byte("two"), To: loopback(b, "192.0.2.3")},
		{Buf: []byte("three"), To: loopback(b, "192.0.2.2")},
	}
	a.NewSender().Send(runs)
	if runs[0].Err != nil || runs[1].Err != unix.EPERM || runs[2].Err != nil {
		t.Errorf("got %v, %v, %v; want only EPERM for the second", runs[0].Err, runs[1].Err, runs[2].Err)
	}
	if got, _, _ := receiveAll(t, b, 8); string(got) != "onethree" {
		t.Errorf("received %q", got)
	}
}

func TestSocket_fullSendBufferDelaysAndThenFails(t *testing.T) {
	here, there := testnet.New(t), testnet.New(t)
	name, _ := testnet.Veth(t, here, there, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"})
	if out, err := here.Try("tc", "qdisc", "add", "dev", name, "root", "tbf", "rate", "1mbit", "burst", "4k", "limit", "1m"); err != nil {
		t.Skipf("no tbf qdisc: %v %s", err, out)
	}
	a, b := openIn(t, here, Options{}), openIn(t, there, Options{})
	if err := unix.SetsockoptInt(a.ref.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 20000); err != nil {
		t.Fatal(err)
	}
	runs := make([]Run, 100)
	for i := range runs {
		runs[i] = Run{Buf: make([]byte, 1400), To: loopback(b, "192.0.2.2")}
	}
	start := time.Now()
	a.NewSender().Send(runs)
	if took := time.Since(start); took > 10*sendPatience {
		t.Errorf("took %v, want about %v", took, sendPatience)
	}
	sent := 0
	for i := range runs {
		sent += runs[i].Sent
		if err := runs[i].Err; err != nil && err != unix.ENOBUFS {
			t.Errorf("run %d: %v", i, err)
		}
	}
	if sent == 0 || sent == len(runs) {
		t.Errorf("%d of %d sent, want some", sent, len(runs))
	}
}

func TestSocket_portThatNobodyListensOn(t *testing.T) {
	a := mustOpen(t, Options{})
	b := mustOpen(t, Options{})
	deaf := loopback(b, "127.0.0.1")
	_ = b.Close()
	for range 3 {
		if r := sendOne(a, deaf, 10, 0); r.Err != nil {
			t.Errorf("send: %v", r.Err)
		}
	}
	c := mustOpen(t, Options{})
	sendOne(c, loopback(a, "127.0.0.1"), 7, 0)
	if got := receiveOne(t, a); got.N != 7 {
		t.Errorf("received %d bytes, want 7", got.N)
	}
}

func TestSocket_overflowIsCounted(t *testing.T) {
	a, b := mustOpen(t, Options{NoGSO: true}), mustOpen(t, Options{})
	if err := unix.SetsockoptInt(b.ref.FD(), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		sendOne(a, loopback(b, "127.0.0.1"), 20*1000, 1000)
	}
	ts := trains(8)
	for n := 1; n > 0; { // empty the buffer, so that the next one gets in and brings the news
		var err error
		if n, err = b.Receive(ts, false); err != nil {
			t.Fatal(err)
		}
	}
	sendOne(a, loopback(b, "127.0.0.1"), 10, 0)
	receiveOne(t, b)
	if got := b.Overflows(); got < 40 || got > 79 {
		t.Errorf("overflows: got %d, want most of 80", got)
	}
}

func TestSocket_shortBufferKeepsWholeDatagrams(t *testing.T) {
	a, b := mustOpen(t, Options{}), mustOpen(t, Options{})
	sendOne(a, loopback(b, "127.0.0.1"), 10*1000, 1000)
	sendOne(a, loopback(b, "127.0.0.1"), 10*1000, 0)
	ts := []Train{{Buf: make([]byte, 3500)}}
	for _, want := range []int{3000, 0} {
		if n, err := b.Receive(ts, true); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if ts[0].N != want || want > 0 && ts[0].Segment != 1000 {
			t.Errorf("got %d by %d, want %d by 1000", ts[0].N, ts[0].Segment, want)
		}
	}
}

func TestSocket_fwmark(t *testing.T) {
	testnet.Require(t)
	s := mustOpen(t, Options{FwMark: 0x1234})
	for _, want := range []uint32{0x1234, 0xffffffff, 0} {
		if want != 0x1234 {
			if err := s.SetMark(want); err != nil {
				t.Fatal(err)
			}
		}
		got, err := unix.GetsockoptInt(s.ref.FD(), unix.SOL_SOCKET, unix.SO_MARK)
		if err != nil || uint32(got) != want {
			t.Errorf("mark %#x, %v; want %#x", got, err, want)
		}
	}
	_ = s.Close()
	if err := s.SetMark(1); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestSocket_closeBesideTraffic(t *testing.T) {
	for range 20 {
		a, b := mustOpen(t, Options{}), mustOpen(t, Options{})
		done := make(chan error, 3)
		started := make(chan struct{}, 3)
		for range 2 {
			go func() {
				x := a.NewSender()
				runs := []Run{{Buf: make([]byte, 3000), Segment: 1000, To: loopback(b, "127.0.0.1")}}
				x.Send(runs)
				started <- struct{}{}
				for runs[0].Err == nil {
					x.Send(runs)
				}
				done <- runs[0].Err
			}()
		}
		go func() {
			ts := trains(2)
			_, err := b.Receive(ts, true)
			started <- struct{}{}
			for err == nil {
				_, err = b.Receive(ts, true)
			}
			done <- err
		}()
		for range 3 {
			<-started
		}
		_, _ = a.Close(), b.Close()
		for range 3 {
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Fatalf("got %v, want net.ErrClosed", err)
			}
		}
	}
}

func TestSocket_closeWakesAReceiverThatSleeps(t *testing.T) {
	s := mustOpen(t, Options{})
	tid := make(chan int, 1)
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // or the call may be made on another thread than the one looked at
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		_, err := s.Receive(trains(1), true)
		result <- err
	}()
	path := fmt.Sprintf("/proc/self/task/%d/syscall", <-tid)
	testnet.Await(t, "asleep in recvmmsg", 5*time.Second, func() bool {
		b, _ := os.ReadFile(path)
		return strings.HasPrefix(string(b), fmt.Sprint(syscall.SYS_RECVMMSG, " "))
	})
	_ = s.Close()
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}

func TestSocket_allocatesNothing(t *testing.T) {
	a, b := mustOpen(t, Options{}), mustOpen(t, Options{})
	x := a.NewSender()
	ts := trains(4)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		to := loopback(b, addr)
		to.Source = netip.MustParseAddr(addr)
		runs := []Run{{Buf: make([]byte, 30000), Segment: 1452, To: to}, {Buf: make([]byte, 100), To: to}}
		if n := testing.AllocsPerRun(100, func() {
			x.Send(runs)
			if runs[0].Err != nil {
				t.Fatal(runs[0].Err)
			}
			for got := 0; got < 30100; {
				n, err := b.Receive(ts, true)
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					got += ts[i].N
				}
			}
			if n, err := b.Receive(ts, false); n != 0 || err != nil {
				t.Fatal(n, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", addr, n)
		}
	}
}

package udp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/boottime"
	"tund/internal/testnet"
)

// reported makes s tell what ICMP says, and receives for it until the test ends.
func reported(t testing.TB, s *Socket) (reports <-chan ICMPReport, received <-chan Train) {
	t.Helper()
	h, r := make(chan ICMPReport, 1024), make(chan Train, 1024)
	s.OnICMP(func(x ICMPReport) { h <- x })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ts := trains(1)
			n, err := s.Receive(ts, true)
			if err != nil {
				return
			}
			for _, tr := range ts[:n] {
				r <- tr
			}
		}
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return h, r
}

// next waits for a report.
func next(t testing.TB, reports <-chan ICMPReport) ICMPReport {
	t.Helper()
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case h := <-reports:
		return h
	case <-timer.C:
		t.Fatal("no report in 5 s")
		return ICMPReport{}
	}
}

func TestICMP_portThatNobodyListensOn(t *testing.T) {
	here, there := testnet.New(t), testnet.New(t)
	testnet.Veth(t, here, there, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	for _, c := range []struct {
		v4only bool
		peer   string
	}{{false, "192.0.2.2"}, {false, "2001:db8::2"}, {true, "192.0.2.2"}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			a := openIn(t, here, Options{IPv4Only: c.v4only})
			reports, received := reported(t, a)
			gone := openIn(t, there, Options{})
			to := loopback(gone, c.peer)
			_ = gone.Close()
			if r := sendOne(a, to, 100, 0); r.Err != nil {
				t.Fatal(r.Err)
			}
			if h, want := next(t, reports), (ICMPReport{To: to.Addr, Errno: unix.ECONNREFUSED}); h != want {
				t.Errorf("got %+v, want %+v", h, want)
			}
			b := openIn(t, there, Options{Port: to.Addr.Port()})
			if r := sendOne(a, to, 100, 0); r.Err != nil {
				t.Errorf("send afterwards: %v", r.Err)
			}
			back := receiveOne(t, b).From
			sendOne(b, back, 7, 0)
			if tr := <-received; tr.N != 7 {
				t.Errorf("received %d bytes afterwards, want 7", tr.N)
			}
		})
	}
}

// Errors about one receiver do not fail what is sent to another, whoever meets them: the receiving
// or the sending side.
func TestICMP_deadPeerDoesNotFailTheOthers(t *testing.T) {
	for _, receiving := range []bool{true, false} {
		t.Run(fmt.Sprintf("receiving=%v", receiving), func(t *testing.T) {
			a, b := mustOpen(t, Options{}), mustOpen(t, Options{})
			told := 0
			if receiving {
				reported(t, a)
			} else {
				a.OnICMP(func(ICMPReport) { told++ })
			}
			gone := mustOpen(t, Options{})
			_ = gone.Close()
			ts := trains(8)
			got, want := 0, 0
			for i := range 400 {
				runs := []Run{
					{Buf: make([]byte, 64), To: loopback(gone, "127.0.0.1")},
					{Buf: make([]byte, 3000), Segment: 1000, To: loopback(b, "127.0.0.1")},
					{Buf: make([]byte, 64), To: loopback(gone, "::1")},
					{Buf: make([]byte, 500), To: loopback(b, "::1")},
				}
				a.NewSender().Send(runs)
				for j := range runs {
					if runs[j].Err != nil || runs[j].SourceGone {
						t.Fatalf("round %d, run %d: %v, source gone %v", i, j, runs[j].Err, runs[j].SourceGone)
					}
				}
				for want += 3500; got < want; {
					n, err := b.Receive(ts, true)
					if err != nil {
						t.Fatal(err)
					}
					for _, tr := range ts[:n] {
						got += tr.N
					}
				}
			}
			if !receiving && told == 0 {
				t.Error("the sending side passed on no report")
			}
		})
	}
}

// A router on the way says that there is no way.
func TestICMP_whatRoutersSay(t *testing.T) {
	here, router := testnet.New(t), testnet.New(t)
	testnet.Veth(t, here, router, []string{"192.0.2.1/24", "2001:db8:1::1/64"}, []string{"192.0.2.2/24", "2001:db8:1::2/64"})
	router.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	router.Run(t, "ip", "route", "add", "prohibit", "203.0.113.0/24")
	router.Run(t, "ip", "route", "add", "unreachable", "203.0.114.0/24")
	router.Run(t, "ip", "route", "add", "unreachable", "2001:db8:3::/64")
	here.Run(t, "ip", "route", "add", "default", "via", "192.0.2.2")
	here.Run(t, "ip", "route", "add", "default", "via", "2001:db8:1::2")
	a := openIn(t, here, Options{})
	reports, _ := reported(t, a)
	for _, c := range []struct {
		to    string
		errno syscall.Errno
	}{
		{"203.0.113.1", unix.EACCES}, {"203.0.114.1", unix.EHOSTUNREACH}, {"2001:db8:3::1", unix.ENETUNREACH},
	} {
		to := Endpoint{Addr: netip.AddrPortFrom(netip.MustParseAddr(c.to), 9)}
		if r := sendOne(a, to, 100, 0); r.Err != nil {
			t.Errorf("%s: %v", c.to, r.Err)
		}
		if h, want := next(t, reports), (ICMPReport{To: to.Addr, Errno: c.errno}); h != want {
			t.Errorf("got %+v, want %+v", h, want)
		}
	}
}

// errorEntry is one entry of the error queue as the kernel writes it on a dual-stack socket.
func errorEntry(h *mmsghdr, to netip.AddrPort, origin byte, errno syscall.Errno, info uint32) {
	name := (*sockaddr)(unsafe.Pointer(h.hdr.Name))
	name.put(to, 0, true)
	control := (*[errorControlSpace]byte)(unsafe.Pointer(h.hdr.Control))
	data, next := putHeader((*[controlSpace]byte)(control[:controlSpace]), 0, unix.SOL_IPV6, unix.IPV6_RECVERR, extendedErrorSize+28)
	clear(data)
	binary.NativeEndian.PutUint32(data, uint32(errno))
	data[errorOriginAt] = origin
	binary.NativeEndian.PutUint32(data[8:], info)
	h.hdr.SetControllen(next)
}

// A flood of forged messages makes the socket deaf for a time; it does not keep it busy.
func TestICMP_floodIsCutOff(t *testing.T) {
	k := &scripted{}
	s, _ := k.socket(t, newer())
	s.v6 = false // the script's descriptor is of an IPv4 socket
	told, calls := 0, 0
	s.errors.recvmmsg = func(_ int, hdrs []mmsghdr, _ int) (int, syscall.Errno) {
		calls++
		for i := range hdrs {
			errorEntry(&hdrs[i], run(1, 1).To.Addr, unix.SO_EE_ORIGIN_ICMP, unix.ECONNREFUSED, 0)
		}
		return len(hdrs), 0
	}
	s.OnICMP(func(ICMPReport) { told++ })
	reporting := func() bool {
		v, err := unix.GetsockoptInt(s.ref.FD(), unix.SOL_IP, unix.IP_RECVERR)
		if err != nil {
			t.Fatal(err)
		}
		return v == 1
	}
	if !reporting() {
		t.Fatal("the error queue is not on")
	}
	s.drain()
	if told < maxReports || told > maxReports+drainBatch || reporting() {
		t.Errorf("%d reports, and the error queue is on: %v; want about %d, off", told, reporting(), maxReports)
	}
	before := calls
	s.drain()
	if calls-before > 1 {
		t.Errorf("%d more calls in the same second", calls-before)
	}
	s.listen()
	if reporting() {
		t.Error("on again at once")
	}
	s.errors.quietUntil.Store(int64(boottime.Now()))
	s.listen()
	if !reporting() {
		t.Error("not on again after the pause")
	}
}

// However many errors come in while a message is sent, and whoever reads them, it is sent if the
// kernel takes it before the socket is deaf; and given up at some time.
func TestSender_staleErrors(t *testing.T) {
	for _, c := range []struct {
		answers  int
		errno    syscall.Errno
		queued   bool // there is an error in the queue each time
		readByRx bool // and the receiving side reads it before the sender does
		want     string
	}{
		{1, unix.ECONNREFUSED, true, false, "1"},
		{100, unix.EHOSTUNREACH, true, false, "1"},
		{100, unix.EHOSTUNREACH, true, true, "1"},
		{2 * maxStale, unix.ECONNREFUSED, true, false, "0,ECONNREFUSED"},
		{2 * maxStale, unix.ECONNREFUSED, true, true, "0,ECONNREFUSED"},
		// An error that was counted before it made a system call fail.
		{2, unix.ECONNREFUSED, false, false, "1"},
		// The kernel means this message.
		{3, unix.EHOSTUNREACH, false, false, "0,EHOSTUNREACH"},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			k := &scripted{}
			for range c.answers {
				k.answers = append(k.answers, c.errno)
			}
			s, x := k.socket(t, newer())
			s.v6 = false
			left := 0
			s.errors.recvmmsg = func(_ int, hdrs []mmsghdr, _ int) (int, syscall.Errno) {
				if left == 0 {
					return 0, unix.EAGAIN
				}
				left--
				errorEntry(&hdrs[0], run(1, 1).To.Addr, unix.SO_EE_ORIGIN_ICMP, unix.ECONNREFUSED, 0)
				return 1, 0
			}
			s.OnICMP(func(ICMPReport) {})
			send := x.sendmmsg
			x.sendmmsg = func(fd int, hdrs []mmsghdr) (int, syscall.Errno) {
				if c.queued {
					left = 1
				}
				if c.readByRx {
					s.drain()
				}
				return send(fd, hdrs)
			}
			runs := []Run{run(1, 1)}
			x.Send(runs)
			got := fmt.Sprint(runs[0].Sent)
			if runs[0].Err != nil {
				got += "," + unix.ErrnoName(runs[0].Err.(syscall.Errno))
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestICMP_allocatesNothing(t *testing.T) {
	k := &scripted{}
	s, _ := k.socket(t, newer())
	s.v6 = false
	left, to := 0, run(1, 1).To.Addr
	s.errors.recvmmsg = func(_ int, hdrs []mmsghdr, _ int) (int, syscall.Errno) {
		if left--; left < 0 {
			return 0, unix.EAGAIN
		}
		errorEntry(&hdrs[0], to, unix.SO_EE_ORIGIN_ICMP, unix.ECONNREFUSED, 0)
		return 1, 0
	}
	s.OnICMP(func(ICMPReport) {})
	if n := testing.AllocsPerRun(50, func() { left = 1; s.drain() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseError(f *testing.F) {
	var h mmsghdr
	var name sockaddr
	var control [errorControlSpace]byte
	h.hdr.Name, h.hdr.Control = &name[0], &control[0]
	errorEntry(&h, netip.MustParseAddrPort("192.0.2.1:51820"), unix.SO_EE_ORIGIN_ICMP, unix.EMSGSIZE, 1300)
	f.Add(name[:], control[:h.hdr.Controllen])
	f.Add(name[:], control[:20])
	f.Fuzz(func(t *testing.T, n, c []byte) {
		var name sockaddr
		copy(name[:], n)
		report, _, ok := parseError(&name, c, &zoneName{})
		if ok && (!report.To.IsValid() || report.Errno == 0 || report.Errno == unix.EMSGSIZE) {
			t.Errorf("%+v", report)
		}
	})
}

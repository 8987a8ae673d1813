package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/boottime"
	"tund/internal/fdref"
)

// scripted is a kernel that answers sendmmsg and recvmmsg by a script and writes down what it was
// asked.
type scripted struct {
	// answers for each message tried, in turn; when they are used up everything succeeds.
	answers []syscall.Errno
	// log has a word for each message: address, bytes, what it carried, and the answer.
	log []string
	// received is what recvmmsg answers, in turn.
	received []func(hdrs []mmsghdr) (int, syscall.Errno)
}

// socket returns a Socket on the script. Its descriptor is a real one, of a socket nobody uses.
func (k *scripted) socket(t testing.TB, q gsoQuirks) (*Socket, *sender) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &Socket{ref: fdref.New(fd), v6: true, gso: true, quirk: q}
	s.rx.init()
	s.rx.recvmmsg = func(_ int, hdrs []mmsghdr, _ int) (int, syscall.Errno) {
		if len(k.received) == 0 {
			return 0, unix.EAGAIN
		}
		next := k.received[0]
		k.received = k.received[1:]
		return next(hdrs)
	}
	d := newSender(s)
	d.sendmmsg = k.sendmmsg
	d.writable = func(int, time.Duration) { k.log = append(k.log, "poll") }
	t.Cleanup(func() { _ = s.Close() })
	return s, d
}

func (k *scripted) sendmmsg(_ int, hdrs []mmsghdr) (int, syscall.Errno) {
	for i := range hdrs {
		var errno syscall.Errno
		if len(k.answers) > 0 {
			errno, k.answers = k.answers[0], k.answers[1:]
		}
		if errno != 0 {
			if i > 0 { // as the kernel does: what was sent counts, and the error is forgotten
				k.answers = append([]syscall.Errno{errno}, k.answers...)
				return i, 0
			}
			k.log = append(k.log, describe(&hdrs[i])+"!"+unix.ErrnoName(errno))
			return 0, errno
		}
		k.log = append(k.log, describe(&hdrs[i]))
	}
	return len(hdrs), 0
}

// describe says what a message asks of the kernel: "last octet:bytes[/segment][@source][+tail]".
func describe(m *mmsghdr) string {
	name := (*sockaddr)(unsafe.Pointer(m.hdr.Name))
	to := name.addrPort(&zoneName{}).Addr().As16()
	iovs := unsafe.Slice(m.hdr.Iov, m.hdr.Iovlen)
	s := fmt.Sprintf("%d:%d", to[15], iovs[0].Len)
	b := unsafe.Slice(m.hdr.Control, m.hdr.Controllen)
	for len(b) > 0 {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		data := b[headerSize:h.Len]
		switch {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_SEGMENT:
			s += fmt.Sprintf("/%d", *(*uint16)(unsafe.Pointer(&data[0])))
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO:
			s += fmt.Sprintf("@%d", data[15])
		}
		b = b[align(int(h.Len)):]
	}
	if len(iovs) > 1 {
		s += fmt.Sprintf("+%d", iovs[1].Len)
	}
	return s
}

// run makes a run to 192.0.2.<host> of n datagrams of 100 bytes, the last of which has 40.
func run(host byte, n int) Run {
	return Run{
		Buf: make([]byte, (n-1)*100+40), Segment: 100,
		To: Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), 51820)},
	}
}

// from sets the source to 198.51.100.<host>.
func from(r Run, host byte) Run {
	r.To.Source = netip.AddrFrom4([4]byte{198, 51, 100, host})
	return r
}

// senderCase is an answer of the kernel and what Send makes of it.
type senderCase struct {
	name    string
	quirks  gsoQuirks
	answers []syscall.Errno
	runs    []Run
	want    string // the messages tried
	results string // per run: datagrams sent, error, "-" for a source gone
}

// newer is a kernel without faults.
func newer() gsoQuirks { return gsoQuirks{segments: 128} }

func (c *senderCase) check(t *testing.T) {
	k := &scripted{answers: c.answers}
	_, x := k.socket(t, c.quirks)
	x.Send(c.runs)
	if got := strings.Join(k.log, " "); got != c.want {
		t.Errorf("messages:\n got %s\nwant %s", got, c.want)
	}
	var results []string
	for _, r := range c.runs {
		s := fmt.Sprint(r.Sent)
		if r.Err != nil {
			s += "," + unix.ErrnoName(r.Err.(syscall.Errno))
		}
		if r.SourceGone {
			s += "-"
		}
		results = append(results, s)
	}
	if got := strings.Join(results, " "); got != c.results {
		t.Errorf("results: got %s, want %s", got, c.results)
	}
}

// Some network drivers answer with EIO: segmentation is turned off and the run sent again.
func TestSender_refusedRunsAndLostOnes(t *testing.T) {
	for _, c := range []senderCase{
		{"several receivers in one call", newer(), nil,
			[]Run{run(1, 3), run(2, 1), from(run(3, 2), 9)}, "1:240/100 2:40 3:140/100@9", "3 1 2"},
		{"an empty run between others", newer(), nil,
			[]Run{{To: run(1, 1).To}, run(2, 2), {}, run(3, 2)}, "2:140/100 3:140/100", "0 2 0 2"},
		{"EIO: all runs as single datagrams", newer(), []syscall.Errno{0, unix.EIO},
			[]Run{run(1, 3), run(2, 2), run(3, 2)},
			"1:240/100 2:140/100!EIO 2:100 2:40 3:100 3:40", "3 2 2"},
		{"EINVAL: this run as single datagrams", newer(), []syscall.Errno{unix.EINVAL},
			[]Run{run(1, 3), run(2, 2)}, "1:240/100!EINVAL 1:100 1:100 1:40 2:140/100", "3 2"},
		{"EMSGSIZE of a run: single datagrams, which may be fragmented", newer(), slices.Repeat([]syscall.Errno{unix.EMSGSIZE}, 3),
			[]Run{run(1, 2)}, "1:140/100!EMSGSIZE 1:140/100!EMSGSIZE 1:140/100!EMSGSIZE 1:100 1:40", "2"},
		{"EMSGSIZE left by an earlier datagram", newer(), []syscall.Errno{unix.EMSGSIZE},
			[]Run{run(1, 2)}, "1:140/100!EMSGSIZE 1:140/100", "2"},
		{"EMSGSIZE of a single datagram is final", newer(), slices.Repeat([]syscall.Errno{unix.EMSGSIZE}, 3),
			[]Run{run(1, 1), run(2, 1)}, "1:40!EMSGSIZE 1:40!EMSGSIZE 1:40!EMSGSIZE 2:40", "0,EMSGSIZE 1"},
		{"EPERM costs one datagram and no other", newer(), []syscall.Errno{0, unix.EPERM},
			[]Run{run(1, 1), run(2, 1), run(3, 1)}, "1:40 2:40!EPERM 3:40", "1 0,EPERM 1"},
		{"EPERM in the middle of single datagrams", newer(), []syscall.Errno{unix.EINVAL, 0, unix.EPERM},
			[]Run{run(1, 3)}, "1:240/100!EINVAL 1:100 1:100!EPERM 1:40", "2,EPERM"},
		{"ENOBUFS of a queue costs one message and no other", newer(), []syscall.Errno{unix.EINVAL, unix.ENOBUFS},
			[]Run{run(1, 3), run(2, 1)}, "1:240/100!EINVAL 1:100!ENOBUFS 1:100 1:40 2:40", "2,ENOBUFS 1"},
		{"an error left by an earlier datagram", newer(), []syscall.Errno{unix.ECONNREFUSED},
			[]Run{run(1, 2), run(2, 1)}, "1:140/100!ECONNREFUSED 1:140/100 2:40", "2 1"},
		{"unreachable", newer(), slices.Repeat([]syscall.Errno{unix.ENETUNREACH}, 3),
			[]Run{run(1, 1), run(2, 1)}, "1:40!ENETUNREACH 1:40!ENETUNREACH 1:40!ENETUNREACH 2:40", "0,ENETUNREACH 1"},
	} {
		t.Run(c.name, c.check)
	}
}

func TestSender_sourcesThatHaveGone(t *testing.T) {
	for _, c := range []senderCase{
		{"the source has gone", newer(), []syscall.Errno{unix.EINVAL},
			[]Run{from(run(1, 1), 9), from(run(2, 1), 8)}, "1:40@9!EINVAL 1:40 2:40@8", "1- 1"},
		{"the source has gone, found by a segmented run", newer(), []syscall.Errno{unix.EINVAL, unix.EINVAL},
			[]Run{from(run(1, 2), 9)}, "1:140/100@9!EINVAL 1:100@9!EINVAL 1:100 1:40", "2-"},
		{"too long for segmentation, and the source is not to blame", newer(), []syscall.Errno{unix.EINVAL},
			[]Run{from(run(1, 2), 9)}, "1:140/100@9!EINVAL 1:100@9 1:40@9", "2"},
		{"no route with the source nor without", newer(),
			slices.Repeat([]syscall.Errno{unix.ENETUNREACH}, 4),
			[]Run{from(run(1, 1), 9), run(2, 1)},
			"1:40@9!ENETUNREACH 1:40@9!ENETUNREACH 1:40@9!ENETUNREACH 1:40!ENETUNREACH 2:40", "0,ENETUNREACH 1"},
		{"EINVAL whatever is tried", newer(), []syscall.Errno{unix.EINVAL, unix.EINVAL, unix.EINVAL},
			[]Run{from(run(1, 2), 9), run(2, 1)},
			"1:140/100@9!EINVAL 1:100@9!EINVAL 1:100!EINVAL 2:40", "0,EINVAL 1"},
	} {
		t.Run(c.name, c.check)
	}
}

func TestSender_limitsOfKernelAndSocket(t *testing.T) {
	for _, c := range []senderCase{
		{"a full buffer that drains", newer(), []syscall.Errno{unix.EAGAIN},
			[]Run{run(1, 1), run(2, 1)}, "1:40!EAGAIN poll 1:40 2:40", "1 1"},
		{"EINTR", newer(), []syscall.Errno{unix.EINTR}, []Run{run(1, 1)}, "1:40!EINTR 1:40", "1"},
		{"an old kernel takes 64 segments", gsoQuirks{segments: 64}, nil,
			[]Run{run(1, 130)}, "1:6400/100 1:6400/100 1:140/100", "130"},
		{"equal tail: a short tail is as it is", gsoQuirks{128, true}, nil, []Run{run(1, 9)}, "1:840/100", "9"},
		{"equal tail: an equal one gets a tail", gsoQuirks{128, true}, nil,
			[]Run{{Buf: make([]byte, 900), Segment: 100, To: run(1, 1).To}}, "1:900/100+24", "9"},
		{"equal tail: few datagrams go alone", gsoQuirks{128, true}, nil,
			[]Run{{Buf: make([]byte, 200), Segment: 100, To: run(1, 1).To}}, "1:100 1:100", "2"},
		{"IPv4 source and IPv6 receiver", newer(), nil,
			[]Run{{Buf: make([]byte, 5), To: Endpoint{Addr: netip.MustParseAddrPort("[2001:db8::7]:1"),
				Source: netip.MustParseAddr("192.0.2.1")}}}, "7:5", "1"},
		{"no receiver", newer(), nil, []Run{run(1, 1), {Buf: make([]byte, 5)}, run(2, 1)},
			"1:40 2:40", "1 0,EAFNOSUPPORT 1"},
	} {
		t.Run(c.name, c.check)
	}
}

func TestSender_segmentationIsTriedAgainAfterATime(t *testing.T) {
	k := &scripted{answers: []syscall.Errno{unix.EIO}}
	s, x := k.socket(t, gsoQuirks{segments: 64})
	x.Send([]Run{run(1, 2)})
	if f := s.Features(); f.GSO || f.Fallbacks != 1 {
		t.Errorf("after EIO: GSO %v, %d fallbacks; want off, 1", f.GSO, f.Fallbacks)
	}
	s.gsoOffUntil.Store(int64(boottime.Now()))
	k.log = nil
	x.Send([]Run{run(1, 2)})
	if got, want := strings.Join(k.log, " "), "1:140/100"; got != want || !s.Features().GSO {
		t.Errorf("later: %s, GSO %v; want %s, on", got, s.Features().GSO, want)
	}
}

func TestSender_patienceEnds(t *testing.T) {
	k := &scripted{}
	for range 200 {
		k.answers = append(k.answers, unix.EAGAIN)
	}
	_, x := k.socket(t, gsoQuirks{segments: 64})
	runs := []Run{run(1, 1), run(2, 1)}
	x.Send(runs)
	if runs[0].Err != unix.ENOBUFS || runs[1].Err != unix.ENOBUFS {
		t.Errorf("got %v, %v; want ENOBUFS", runs[0].Err, runs[1].Err)
	}
	if len(k.log) > 140 {
		t.Errorf("%d calls", len(k.log))
	}
}

func TestSender_moreMessagesThanOneCallTakes(t *testing.T) {
	k := &scripted{}
	_, x := k.socket(t, gsoQuirks{segments: 64})
	runs := make([]Run, 150)
	for i := range runs {
		runs[i] = run(byte(i), 1)
	}
	x.Send(runs)
	for i := range runs {
		if runs[i].Sent != 1 {
			t.Fatalf("run %d: %+v", i, runs[i])
		}
	}
	if len(k.log) != 150 || k.log[149] != "149:40" {
		t.Errorf("%d messages, last %s", len(k.log), k.log[len(k.log)-1])
	}
}

// FuzzSender lets the kernel answer whatever it likes: each run ends with a result that fits what
// was taken.
func FuzzSender(f *testing.F) {
	f.Add([]byte{0, 22, 5, 0, 1}, []byte{3, 1, 9})
	f.Add([]byte{22, 22, 22, 11, 11, 105, 1}, []byte{100, 2})
	f.Fuzz(func(t *testing.T, answers, sizes []byte) {
		k := &scripted{}
		for _, a := range answers {
			k.answers = append(k.answers, syscall.Errno(a%133))
		}
		_, x := k.socket(t, gsoQuirks{segments: 64, equalTail: len(sizes)%2 == 1})
		runs := make([]Run, min(len(sizes), 80))
		for i := range runs {
			runs[i] = run(byte(i), int(sizes[i])%100+1)
			if sizes[i]&0x80 != 0 {
				runs[i] = from(runs[i], 5)
			}
		}
		x.Send(runs)
		for i := range runs {
			datagrams := int(sizes[i])%100 + 1
			if all := runs[i].Sent == datagrams; all != (runs[i].Err == nil) {
				t.Errorf("run %d: %d of %d sent, error %v", i, runs[i].Sent, datagrams, runs[i].Err)
			}
		}
	})
}

func TestSocket_receiveLivesThroughErrors(t *testing.T) {
	k := &scripted{}
	fail := func(errno syscall.Errno) func([]mmsghdr) (int, syscall.Errno) {
		return func([]mmsghdr) (int, syscall.Errno) { return 0, errno }
	}
	succeed := func(hdrs []mmsghdr) (int, syscall.Errno) {
		copy(unsafe.Slice(hdrs[0].hdr.Iov.Base, 5), "hello")
		hdrs[0].len = 5
		hdrs[0].hdr.SetControllen(0)
		return 1, 0
	}
	s, _ := k.socket(t, gsoQuirks{})
	k.received = append(k.received, fail(unix.ECONNREFUSED), fail(unix.EINTR), fail(unix.EHOSTUNREACH),
		fail(unix.EMSGSIZE), succeed, fail(unix.ENOMEM), succeed)
	ts := trains(1)
	for _, want := range []error{nil, unix.ENOMEM, nil} {
		n, err := s.Receive(ts, true)
		if err != want || err == nil && (n != 1 || !bytes.Equal(ts[0].Buf[:ts[0].N], []byte("hello"))) {
			t.Errorf("got %d %q, %v; want %v", n, ts[0].Buf[:ts[0].N], err, want)
		}
	}
	for range maxSwallowed + 1 {
		k.received = append(k.received, fail(unix.ECONNREFUSED))
	}
	if _, err := s.Receive(ts, true); err != unix.ECONNREFUSED {
		t.Errorf("a kernel that fails for ever: %v, want ECONNREFUSED", err)
	}
	_ = s.Close()
	if _, err := s.Receive(ts, true); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestQuirks_byRelease(t *testing.T) {
	for release, want := range map[string]gsoQuirks{
		"5.10.0-28-amd64": {64, false}, "6.8.12": {64, false}, "6.9.0": {128, false}, "6.18.44-fc-v669": {128, false},
		"7.0.0-rc1": {128, true}, "7.0.14-pve": {128, true}, "7.1.0": {128, true}, "7.1": {128, true},
		"7.1.4": {128, true}, "7.1.5": {128, false}, "7.2.0": {128, false}, "10.0.1": {128, false},
		"": {64, false}, "x.y": {64, false}, "6": {64, false}, "99999999999999": {128, false},
	} {
		if got := quirksOf(release); got != want {
			t.Errorf("%q: got %+v, want %+v", release, got, want)
		}
	}
}

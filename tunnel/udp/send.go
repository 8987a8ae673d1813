package udp

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/boottime"
)

const (
	// maxPayload is what one UDP message may carry over IPv4, a run included: 65,535 less the
	// headers of IPv4 (20) and UDP (8).
	maxPayload = 65507

	// sendPatience bounds how long one Send waits, in all, for a full socket buffer. Waiting is
	// what pushes back on the device queue, where the loss belongs; a peer behind a dead link must
	// not hold the lane.
	sendPatience = 20 * time.Millisecond

	// gsoRetryAfter is for how long UDP_SEGMENT is left alone after the egress device refused it.
	// Routes change, so it is tried again; a trial that fails costs one system call.
	gsoRetryAfter = 30 * time.Second

	// smallRun is the number of datagrams below which kernels with the equal-tail bug get single
	// ones rather than a run with a tail.
	smallRun = 8

	// tailSize is the length of the tail that is appended there: too short for WireGuard, type 0,
	// so receivers drop it. Not shorter than this: a tail of 1 byte, as others send it, makes
	// frames below Ethernet's minimum, on which some adapters' segmentation fails
	// (tailscale#20994).
	tailSize = 24
)

// sender implements Sender: it turns runs into messages, and the kernel's answers into results.
type sender struct {
	batch
	socket *Socket
	tail   [tailSize]byte

	// The messages of the batch under way.
	parts [maxBatch]part
	count int

	// Where we are: the datagrams of runs[run] from off on are still to be sent, in this way.
	run, off int
	way      way
	// How often this message was sent again after an error that an earlier one may have left
	// behind.
	stale    int
	fromAfar uint64 // errors by ICMP that were known at the last refusal
	patience time.Duration
	whole    bool // the batch is a run with DontFragment

	// sendmmsg and writable are the seams through which tests make the kernel fail on schedule.
	sendmmsg func(fd int, hdrs []mmsghdr) (int, syscall.Errno)
	writable func(fd int, patience time.Duration)
}

// part says what a message is made of: runs[run].Buf[off:end].
type part struct {
	run, off, end int
	datagrams     int
}

// way is how a run is sent, after what was refused.
type way struct {
	singles  bool // without UDP_SEGMENT
	noSource bool // without To.Source
}

func newSender(s *Socket) *sender {
	x := &sender{socket: s, sendmmsg: sendmmsg, writable: writable}
	x.batch.init()
	return x
}

// sendmmsg is the system call. It never waits.
func sendmmsg(fd int, hdrs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0])),
		uintptr(len(hdrs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// writable waits for room in the socket's buffer. It may return early, and when half the buffer is
// not free in time.
func writable(fd int, patience time.Duration) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	timeout := unix.NsecToTimespec(patience.Nanoseconds())
	_, _ = unix.Ppoll(fds[:], &timeout, nil) // whatever it says, the next send says it better
}

// Send implements Sender.
func (x *sender) Send(runs []Run) {
	for i := range runs {
		runs[i].Err, runs[i].Sent, runs[i].SourceGone = nil, 0, false
	}
	ref := x.socket.ref
	if !ref.Enter() {
		for i := range runs {
			runs[i].Err = net.ErrClosed
		}
		return
	}
	defer ref.Leave()
	x.start(0)
	x.patience = sendPatience
	x.whole = len(runs) == 1 && runs[0].DontFragment
	for x.run < len(runs) {
		if !x.fill(runs) {
			continue
		}
		sent, errno := x.transmit()
		if errno == 0 {
			// The kernel keeps the reason to itself, and forgets it: perhaps ICMP.
			if sent < x.count {
				x.socket.drain()
			}
			x.advance(runs, x.parts[:sent])
		} else {
			x.refused(runs, errno)
		}
	}
}

// transmit hands the messages of the batch to the kernel. Those that must not be fragmented go
// alone: the option that says so is one of the socket, and would concern whatever another goroutine
// sends at that moment. None of the calls waits, so neither does anybody for longer than they take.
func (x *sender) transmit() (int, syscall.Errno) {
	s := x.socket
	if !x.whole {
		s.sending.RLock()
		defer s.sending.RUnlock()
		return x.sendmmsg(s.ref.FD(), x.hdrs[:x.count])
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	s.dontFragment(true)
	defer s.dontFragment(false)
	return x.sendmmsg(s.ref.FD(), x.hdrs[:x.count])
}

// start moves to the beginning of a run.
func (x *sender) start(run int) {
	x.run, x.off, x.way, x.stale = run, 0, way{}, 0
}

// fill makes messages of what is still to be sent, as many as a batch holds. When the run next in
// turn has nothing that could be sent it gets its result instead, and fill returns false.
func (x *sender) fill(runs []Run) bool {
	x.count = 0
	gso := x.socket.gsoUsable()
	run, off, w := x.run, x.off, x.way
	for run < len(runs) && x.count < maxBatch {
		r := &runs[run]
		w.singles = w.singles || !gso
		for off < len(r.Buf) && x.count < maxBatch {
			if errno := x.message(r, run, off, w); errno != 0 {
				if x.count == 0 {
					r.Err = errno
					x.start(run + 1)
				}
				return x.count > 0
			}
			off = x.parts[x.count-1].end
		}
		if off < len(r.Buf) {
			break // the batch is full
		}
		run, off, w = run+1, 0, way{}
		if x.count == 0 {
			x.start(run) // an empty run is sent by doing nothing
		}
	}
	return x.count > 0
}

// message makes the next message, of r.Buf[off:], unless this socket cannot reach the receiver:
// EAFNOSUPPORT for its family, ENODEV for the interface in its zone.
func (x *sender) message(r *Run, run, off int, w way) syscall.Errno {
	i, s := x.count, x.socket
	h := &x.hdrs[i].hdr
	scope, ok := scopeOf(s.ref.FD(), &r.To)
	if !ok {
		return unix.ENODEV
	}
	h.Namelen = x.names[i].put(r.To.Addr, scope, s.v6)
	if h.Namelen == 0 {
		return unix.EAFNOSUPPORT
	}
	p := part{run: run, off: off, end: min(off+r.Segment, len(r.Buf)), datagrams: 1}
	if r.Segment <= 0 {
		p.end = len(r.Buf)
	}
	at, tail := 0, false
	if !w.singles && p.end < len(r.Buf) {
		p, tail = x.join(r, p)
	}
	if p.datagrams > 1 {
		at = putSegment(&x.controls[i], at, r.Segment)
	}
	if source := r.To.Source; !w.noSource && source.IsValid() && source.Is4() == r.To.Addr.Addr().Is4() {
		// scope, not To.Ifindex: that would bind us to the interface the peer's datagram came in
		// by.
		at = putSource(&x.controls[i], at, source, scope, s.v6)
	}
	if r.Class != 0 {
		at = putClass(&x.controls[i], at, r.Class, r.To.Addr.Addr().Unmap().Is4())
	}
	h.SetControllen(at)
	x.setBytes(i, r.Buf[off:p.end])
	h.SetIovlen(1)
	if tail {
		x.iovs[i][1].Base = &x.tail[0]
		x.iovs[i][1].SetLen(tailSize)
		h.SetIovlen(2)
	}
	x.parts[i] = p
	x.count++
	return 0
}

// join extends p, one datagram of r, to as many as the kernel takes in one message, and says
// whether a tail has to follow them.
func (x *sender) join(r *Run, p part) (_ part, tail bool) {
	quirk := &x.socket.quirk
	most, room := quirk.segments, maxPayload
	if quirk.equalTail {
		most, room = most-1, room-tailSize
	}
	rest := len(r.Buf) - p.off
	n := min((rest+r.Segment-1)/r.Segment, most, room/r.Segment)
	if n < 2 {
		return p, false
	}
	end := min(p.off+n*r.Segment, len(r.Buf))
	tail = quirk.equalTail && (end-p.off)%r.Segment == 0
	if tail && (n < smallRun || r.Segment <= tailSize) {
		return p, false
	}
	p.end, p.datagrams = end, n
	return p, tail
}

// advance notes the messages the kernel took and moves behind them.
func (x *sender) advance(runs []Run, taken []part) {
	for _, p := range taken {
		if p.run != x.run {
			x.start(p.run)
		}
		r := &runs[p.run]
		r.Sent += p.datagrams
		r.SourceGone = r.SourceGone || x.way.noSource
		x.off, x.stale = p.end, 0
		if p.end == len(r.Buf) {
			x.start(p.run + 1)
		}
	}
}

// refused deals with the kernel's refusal of the first message: it changes the way of sending, or
// gives up the message or the run.
func (x *sender) refused(runs []Run, errno syscall.Errno) {
	p := &x.parts[0]
	r := &runs[p.run]
	gso := p.datagrams > 1
	source := !x.way.noSource && r.To.Source.IsValid()
	full := errno == unix.EAGAIN
	switch {
	case errno == unix.EINTR:
		return
	case full && x.awaitRoom():
		return
	case full:
		errno = unix.ENOBUFS
	case perhapsStale(errno) && x.again():
		return
	case gso && errno == unix.EIO:
		// No checksum offload on the way out: true for other runs as well.
		x.socket.gsoRefused()
		return
	case gso && (errno == unix.EINVAL || errno == unix.EMSGSIZE): // larger than the interface takes
		x.socket.fallbacks.Add(1)
		x.way.singles = true
		return
	case source && (errno == unix.EINVAL || errno == unix.ENETUNREACH || errno == unix.EADDRNOTAVAIL):
		x.way.noSource = true
		return
	}
	if r.Err == nil {
		r.Err = errno
	}
	if (errno == unix.EPERM || errno == unix.ENOBUFS && !full) && p.end < len(r.Buf) {
		// A firewall or a full queue may drop one datagram and take the next.
		x.off, x.stale = p.end, 0
		return
	}
	x.start(p.run + 1)
}

const (
	// staleAnyway is how often a message is sent again, whatever is known, when the kernel answers
	// with what may be an error of an earlier one: an error may be counted before it makes a system
	// call fail.
	staleAnyway = 2
	// maxStale is how often it is sent again as long as new errors come in by ICMP. A flood of them
	// makes the socket deaf before that.
	maxStale = maxReports
)

// again reports whether to send the first message once more after such an answer. Reading the error
// has cleared it, but the next one may have come in meanwhile, and the receiving side may have read
// that.
func (x *sender) again() bool {
	last := x.fromAfar
	x.fromAfar = x.socket.drained()
	x.stale++
	return x.stale <= staleAnyway || x.fromAfar != last && x.stale <= maxStale
}

// perhapsStale reports whether errno may be what ICMP said of an earlier datagram, rather than the
// kernel of this one.
func perhapsStale(errno syscall.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.ENONET, unix.EACCES,
		unix.ENOPROTOOPT, unix.EPROTO, unix.EOPNOTSUPP, unix.EMSGSIZE, unix.ECONNRESET:
		return true
	}
	return false
}

// awaitRoom waits for the socket's buffer to drain, within the patience left to this Send, and
// reports whether to try again. When the patience ends in this wait it says so once more: poll(2)
// calls a socket writable when half its buffer is free, and what is to be sent needs less.
func (x *sender) awaitRoom() bool {
	if x.patience <= 0 {
		return false
	}
	before := boottime.Now()
	x.writable(x.socket.ref.FD(), x.patience)
	// At least a little is used up, so that a kernel which always claims to have room ends the loop
	// too.
	x.patience -= max(boottime.Now().Sub(before), sendPatience/64)
	return true
}

// gsoUsable reports whether UDP_SEGMENT may be used now.
func (s *Socket) gsoUsable() bool {
	if !s.gso {
		return false
	}
	until := s.gsoOffUntil.Load()
	if until == 0 {
		return true
	}
	if boottime.Now().Before(boottime.Time(until)) {
		return false
	}
	s.gsoOffUntil.CompareAndSwap(until, 0)
	return true
}

// gsoRefused turns UDP_SEGMENT off for a time.
func (s *Socket) gsoRefused() {
	s.fallbacks.Add(1)
	s.gsoOffUntil.Store(int64(boottime.Now().Add(gsoRetryAfter)))
}

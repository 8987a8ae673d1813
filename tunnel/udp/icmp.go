package udp

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/boottime"
)

// ICMPReport is what the network said, by ICMP, about a datagram sent earlier. Anyone can forge
// one: it is a reason to check, never a reason to believe.
type ICMPReport struct {
	// To is where the datagram was sent.
	To netip.AddrPort
	// Errno says what became of it: ECONNREFUSED (nobody listens on the port), EHOSTUNREACH,
	// ENETUNREACH, EACCES (a router or a firewall forbids it), EPROTO. It is never EMSGSIZE: our
	// datagrams do not follow what ICMP says of path MTUs.
	Errno syscall.Errno
}

const (
	// drainBatch is the number of errors taken from the queue by one system call.
	drainBatch = 8
	// maxReports is how many errors a second are passed on. A host that loses a hundred peers at
	// once causes fewer; more of them are meant to keep us busy or to make our sends fail, and then
	// the socket ignores all for reportPause.
	maxReports  = 200
	reportPause = 10 * time.Second
	// errorControlSpace holds the control messages of an error: sock_extended_err with an address,
	// and pktinfo.
	errorControlSpace = 256
)

// errorQueue takes what is in the error queue of a socket (IP_RECVERR, ip(7)). It is read when a
// system call has reported that something is there, and never otherwise.
type errorQueue struct {
	handler    func(ICMPReport) // nil: the queue is not in use
	quietUntil atomic.Int64

	// mu guards what follows. It is held while the queue is read, for at most maxReports errors and
	// never while waiting. Only a sender whose message was refused waits for it.
	mu       sync.Mutex
	hdrs     [drainBatch]mmsghdr
	names    [drainBatch]sockaddr
	controls [drainBatch][errorControlSpace]byte
	zones    zoneName
	second   boottime.Time // of the count
	count    int
	fromAfar uint64 // errors by ICMP, ever

	// recvmmsg is the seam through which tests make errors.
	recvmmsg func(fd int, hdrs []mmsghdr, flags int) (int, syscall.Errno)
}

// OnICMP implements Conn. It turns the error queue on; if the kernel refuses, there are no
// reports.
func (s *Socket) OnICMP(handler func(ICMPReport)) {
	q := &s.errors
	q.handler = handler
	if q.recvmmsg == nil {
		q.recvmmsg = recvmmsg
	}
	for i := range q.hdrs {
		q.hdrs[i].hdr.Name = &q.names[i][0]
		q.hdrs[i].hdr.Control = &q.controls[i][0]
	}
	s.reportErrors(true)
}

// reportErrors turns the error queue on or off; off empties it.
func (s *Socket) reportErrors(on bool) {
	if !s.ref.Enter() {
		return
	}
	defer s.ref.Leave()
	value := 0
	if on {
		value = 1
	}
	// Of a dual-stack socket too.
	_ = unix.SetsockoptInt(s.ref.FD(), unix.SOL_IP, unix.IP_RECVERR, value)
	if s.v6 {
		_ = unix.SetsockoptInt(s.ref.FD(), unix.SOL_IPV6, unix.IPV6_RECVERR, value)
	}
}

// drain passes on what the error queue holds, unless somebody else is at it. The caller is inside
// ref.
//
// For receivers, and for senders whose messages were taken, it does not matter who drains: as long
// as an ICMP error is left in the queue, the kernel makes the next system call fail again.
func (s *Socket) drain() {
	if q := &s.errors; q.handler != nil && q.mu.TryLock() {
		s.read()
		q.mu.Unlock()
	}
}

// drained passes on what the error queue holds, and returns how many errors from elsewhere, by
// ICMP, have been taken from it so far, by whomever. If somebody else is at it, it waits for that:
// each error that is taken from the queue makes a system call fail because of the next one
// (sock_dequeue_err_skb), so that a message would be refused again and again meanwhile. The caller
// is inside ref.
func (s *Socket) drained() (fromAfar uint64) {
	q := &s.errors
	if q.handler == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.read()
	return q.fromAfar
}

// read reads the error queue until it is empty, or has had so many errors that they are turned off
// for a while. The caller holds mu.
func (s *Socket) read() {
	q := &s.errors
	now := boottime.Now()
	if now.Sub(q.second) >= time.Second {
		q.second, q.count = now, 0
	}
	for q.count < maxReports {
		for i := range q.hdrs {
			h := &q.hdrs[i].hdr
			h.Namelen = uint32(len(q.names[i]))
			h.SetControllen(errorControlSpace)
			h.SetIovlen(0)
			h.Flags = 0
		}
		n, errno := q.recvmmsg(s.ref.FD(), q.hdrs[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errno != 0 || n == 0 {
			return // EAGAIN: it is empty
		}
		q.count += n
		for i := range n {
			c := q.controls[i][:min(uint64(q.hdrs[i].hdr.Controllen), errorControlSpace)]
			h, origin, ok := parseError(&q.names[i], c, &q.zones)
			if ok {
				q.handler(h)
			}
			if origin != unix.SO_EE_ORIGIN_LOCAL {
				q.fromAfar++
			}
		}
	}
	q.quietUntil.Store(int64(now.Add(reportPause)))
	s.reportErrors(false)
}

// listen turns the error queue on again after a pause.
func (s *Socket) listen() {
	until := s.errors.quietUntil.Load()
	if until == 0 || boottime.Now().Before(boottime.Time(until)) {
		return
	}
	if s.errors.quietUntil.CompareAndSwap(until, 0) {
		s.reportErrors(true)
	}
}

// Layout of struct sock_extended_err (linux/errqueue.h): errno u32 ‖ origin u8 ‖ type u8 ‖ code u8
// ‖ pad u8 ‖ info u32 ‖ data u32, all in the machine's byte order. The address of who complained
// follows; it is of no use, since whoever forges the complaint forges that too.
const (
	extendedErrorSize = 16
	errorOriginAt     = 4
	errorTypeAt       = 5
	errorCodeAt       = 6
)

// ICMP messages of type "destination unreachable" (RFC 792, RFC 1812 §5.2.7.1) that a firewall
// sends, and for which Linux has the errno of a missing route. firewalld rejects with the second.
const (
	icmpUnreachable       = 3
	icmpNetworkProhibited = 9
	icmpHostProhibited    = 10
	icmpAdminProhibited   = 13
)

// parseError reads one entry of the error queue: the name is where the datagram was sent. origin is
// SO_EE_ORIGIN_NONE when there is no error in it.
func parseError(name *sockaddr, control []byte, zones *zoneName) (h ICMPReport, origin byte, ok bool) {
	for len(control) >= headerSize {
		level, kind, data, rest, valid := nextControl(control)
		if !valid {
			break
		}
		control = rest
		mine := level == unix.SOL_IP && kind == unix.IP_RECVERR || level == unix.SOL_IPV6 && kind == unix.IPV6_RECVERR
		if !mine || len(data) < extendedErrorSize {
			continue
		}
		switch origin = data[errorOriginAt]; origin {
		case unix.SO_EE_ORIGIN_ICMP, unix.SO_EE_ORIGIN_ICMP6, unix.SO_EE_ORIGIN_LOCAL:
		default:
			continue
		}
		h = ICMPReport{To: name.addrPort(zones), Errno: syscall.Errno(binary.NativeEndian.Uint32(data))}
		if origin == unix.SO_EE_ORIGIN_ICMP && data[errorTypeAt] == icmpUnreachable {
			switch data[errorCodeAt] {
			case icmpNetworkProhibited, icmpHostProhibited, icmpAdminProhibited:
				h.Errno = unix.EACCES // as Linux has it for IPv6
			}
		}
		return h, origin, h.To.IsValid() && h.Errno != 0 && h.Errno != unix.EMSGSIZE
	}
	return ICMPReport{}, unix.SO_EE_ORIGIN_NONE, false
}

package udp

import (
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver is the state of Receive.
type receiver struct {
	batch
	zones     zoneName
	lastDrops uint32

	// recvmmsg is the seam through which tests make the kernel fail on schedule.
	recvmmsg func(fd int, hdrs []mmsghdr, flags int) (int, syscall.Errno)
}

func (r *receiver) init() {
	r.batch.init()
	r.recvmmsg = recvmmsg
}

// recvmmsg is the system call.
func recvmmsg(fd int, hdrs []mmsghdr, flags int) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0])),
		uintptr(len(hdrs)), uintptr(flags), 0, 0)
	return int(n), errno
}

// Receive implements Conn. At most maxBatch trains are filled in one call.
//
// What the network did to datagrams sent earlier (ECONNREFUSED and the like, from ICMP) is not the
// receive loop's business: it becomes a ICMPReport, and the call goes on.
func (s *Socket) Receive(trains []Train, wait bool) (int, error) {
	n := min(len(trains), maxBatch)
	if n == 0 {
		return 0, nil
	}
	if !s.ref.Enter() {
		return 0, net.ErrClosed
	}
	defer s.ref.Leave()
	if s.receiveEnded.Load() {
		return 0, net.ErrClosed
	}
	r := &s.rx
	r.prepare(trains[:n])
	s.listen()
	flags := unix.MSG_DONTWAIT
	if wait {
		flags = unix.MSG_WAITFORONE
	}
	swallowed := 0
	for {
		got, errno := r.recvmmsg(s.ref.FD(), r.hdrs[:n], flags)
		if s.ref.Closing() {
			return 0, net.ErrClosed
		}
		switch {
		case errno == 0:
			s.harvest(trains[:got])
			return got, nil
		case errno == unix.EAGAIN && !wait:
			return 0, nil
		case errno == unix.EINTR || errno == unix.EAGAIN:
			if s.receiveEnded.Load() {
				return 0, net.ErrClosed
			}
		case fromNetwork(errno) && swallowed < maxSwallowed:
			swallowed++
			s.drain()
		default:
			return 0, errno
		}
	}
}

// maxSwallowed bounds the errors that one Receive passes over, so that a kernel that fails for ever
// cannot keep a loop inside.
const maxSwallowed = 64

// fromNetwork reports whether errno is an asynchronous error of an earlier send.
func fromNetwork(errno syscall.Errno) bool {
	return perhapsStale(errno) || errno == unix.EPERM || errno == unix.ENOBUFS
}

// prepare points the batch at the trains' buffers.
func (r *receiver) prepare(trains []Train) {
	for i := range trains {
		r.setBytes(i, trains[i].Buf)
		h := &r.hdrs[i].hdr
		h.Namelen = uint32(len(r.names[i]))
		h.SetControllen(controlSpace)
		h.Flags = 0
	}
}

// harvest fills in the trains that were received.
func (s *Socket) harvest(trains []Train) {
	r := &s.rx
	for i := range trains {
		t, m := &trains[i], &r.hdrs[i]
		c := parseControl(r.controls[i][:min(uint64(m.hdr.Controllen), controlSpace)])
		t.N = min(int(m.len), len(t.Buf))
		t.Segment = t.N
		if c.segment > 0 && c.segment < t.N {
			t.Segment = c.segment
		}
		if m.hdr.Flags&unix.MSG_TRUNC != 0 {
			// The datagram that was cut is not handed on; a single one leaves nothing.
			whole := 0
			if c.segment > 0 {
				whole = t.N - t.N%c.segment
			}
			t.N, t.Segment = whole, min(whole, c.segment)
		}
		t.From = Endpoint{Addr: r.names[i].addrPort(&r.zones), Source: usableSource(c.dst), Ifindex: c.ifindex}
		t.CE = c.class&3 == 3 // RFC 3168 §5
		if c.hasDrops && c.drops != r.lastDrops {
			s.overflows.Add(uint64(c.drops - r.lastDrops)) // modulo 2^32, as the kernel counts
			r.lastDrops = c.drops
		}
	}
}

// usableSource returns addr if answers can be sent from it: not so a group's address.
func usableSource(addr netip.Addr) netip.Addr {
	if !addr.IsValid() || addr.IsMulticast() || addr.IsUnspecified() || addr == broadcast {
		return netip.Addr{}
	}
	return addr
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

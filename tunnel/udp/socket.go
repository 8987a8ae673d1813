package udp

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"tund/internal/fdref"
)

// bufferBytes is asked of the kernel for each direction, which books it double. With 7 MiB, as
// wireguard-go has, four flows at 5 Gbit/s lost 100 segments per GB here and 64 flows 20,000 while
// the loop was kept off its core; with 16 none and 12,000, at the same latency beside a flow: what
// TCP lets wait here is bounded by its windows. A flood of UDP fills it.
const bufferBytes = 16 << 20

// Socket is a bound UDP socket. It implements Conn.
//
// The descriptor is in blocking mode: a waiting Receive sleeps inside recvmmsg, one system call
// instead of the three (recvmmsg, ppoll, recvmmsg) of a non-blocking one, and shutdown(2) wakes it.
// Everything that must not wait passes MSG_DONTWAIT.
type Socket struct {
	// Constant.
	ref   *fdref.Ref
	port  uint16
	v6    bool // AF_INET6 and dual-stack; otherwise AF_INET
	gro   bool
	gso   bool // UDP_SEGMENT is known to the kernel and not turned off by Options
	quirk gsoQuirks

	// Atomic.
	gsoOffUntil atomic.Int64 // boottime until which GSO is not used, after an EIO; 0: in use
	overflows   atomic.Uint64
	fallbacks   atomic.Uint64
	// StopReceiving was called.
	receiveEnded atomic.Bool

	rx receiver // used by the one goroutine inside Receive

	errors errorQueue // what ICMP says of what we sent

	// Held exclusively while dontFragment is on, and shared by everybody else who sends: once for
	// each system call, none of which waits.
	sending sync.RWMutex
}

// Open binds a socket: AF_INET6 for both families, or AF_INET where the kernel has no IPv6. Buffer
// sizes, UDP_GRO, UDP_SEGMENT and SO_RXQ_OVFL are taken as far as the kernel grants them; the port,
// the mark and SO_REUSEPORT are not negotiable. A failed Open leaves nothing open.
func Open(o Options) (*Socket, error) {
	if !o.IPv4Only {
		s, err := open(o, unix.AF_INET6)
		if err == nil || !lacksIPv6(err) {
			return s, err
		}
	}
	return open(o, unix.AF_INET)
}

// lacksIPv6 reports whether err means that this host (or the sandbox around us) has no IPv6.
func lacksIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT) ||
		errors.Is(err, unix.EADDRNOTAVAIL)
}

func open(o Options, family int) (_ *Socket, err error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("open udp socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	s := &Socket{v6: family == unix.AF_INET6}
	if err := required(fd, o, family, false); err != nil {
		return nil, err
	}
	var addr unix.Sockaddr = &unix.SockaddrInet4{Port: int(o.Port)}
	if s.v6 {
		addr = &unix.SockaddrInet6{Port: int(o.Port)}
	}
	if err := unix.Bind(fd, addr); err != nil {
		return nil, fmt.Errorf("bind udp port %d: %w", o.Port, err)
	}
	if err := s.begin(fd, o); err != nil {
		return nil, err
	}
	return s, nil
}

// begin completes a Socket whose descriptor is bound. When it fails, fd is still the caller's.
func (s *Socket) begin(fd int, o Options) error {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("read udp port: %w", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		s.port = uint16(name.Port)
	case *unix.SockaddrInet6:
		s.port = uint16(name.Port)
	}
	enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
	enlarge(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	wakeable(fd)
	// Only a counter is lost without it.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	// Without them congestion marks of the way here are not seen.
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVTOS, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1)
	if !o.NoGRO {
		s.gro = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil
	} else {
		_ = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 0) // one taken over may have it
	}
	if !o.NoGSO {
		_, probe := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT)
		s.gso = probe == nil
	}
	s.quirk = kernelQuirks()
	s.ref = fdref.New(fd)
	s.rx.init()
	return nil
}

// option is a socket option that is not negotiable.
type option struct {
	what        string
	level, name int
	value       int
	early       bool // the kernel takes it only before the socket is bound
}

// The sizes of our datagrams depend on the MTU of the interface by which they leave, and on no path
// MTU that the kernel keeps for their destination: it takes that from ICMP messages, which anybody
// can forge for a socket that is not connected. IPv4 leaves without DF, so routers fragment it, as
// with the kernel's WireGuard; what exceeds the interface's own MTU is fragmented here (ip(7),
// ipv6(7); Linux include/net/ip.h, ip_sk_use_pmtu and ip_sk_accept_pmtu).
var (
	noPathMTU4 = option{what: "path MTU discovery of IPv4", level: unix.SOL_IP, name: unix.IP_MTU_DISCOVER, value: unix.IP_PMTUDISC_OMIT}
	noPathMTU6 = option{what: "path MTU discovery of IPv6", level: unix.SOL_IPV6, name: unix.IPV6_MTU_DISCOVER, value: unix.IPV6_PMTUDISC_OMIT}
)

// required sets the options without which the socket would not be what was asked for. Of a socket
// that is bound, it checks those that can no longer be set.
func required(fd int, o Options, family int, bound bool) error {
	options := []option{
		{what: "local addresses of IPv4", level: unix.SOL_IP, name: unix.IP_PKTINFO, value: 1}, noPathMTU4,
	}
	if family == unix.AF_INET6 {
		options = []option{
			{what: "IPv4 beside IPv6", level: unix.SOL_IPV6, name: unix.IPV6_V6ONLY, value: 0, early: true},
			// IPv4 too, as mapped addresses.
			{what: "local addresses of IPv6", level: unix.SOL_IPV6, name: unix.IPV6_RECVPKTINFO, value: 1},
			noPathMTU4, noPathMTU6,
		}
	}
	if o.ReusePort || bound {
		value := 0
		if o.ReusePort {
			value = 1
		}
		options = append(options, option{what: "a shared port", level: unix.SOL_SOCKET, name: unix.SO_REUSEPORT, value: value, early: true})
	}
	if o.FwMark != 0 || bound {
		options = append(options, option{what: "fwmark", level: unix.SOL_SOCKET, name: unix.SO_MARK, value: int(o.FwMark)})
	}
	for _, opt := range options {
		if err := opt.set(fd, bound); err != nil {
			return fmt.Errorf("udp socket: set %s: %w", opt.what, err)
		}
	}
	return bindTo(fd, o.Device, bound)
}

// bindTo binds a socket to a link; of one that is bound already, it compares.
func bindTo(fd int, device string, bound bool) error {
	switch {
	case bound:
		if is, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || is != device {
			return fmt.Errorf("udp socket: it is bound to device %q, not %q", is, device)
		}
	case device != "":
		if err := unix.BindToDevice(fd, device); err != nil {
			return fmt.Errorf("bind udp socket to device %s: %w", device, err)
		}
	}
	return nil
}

// set sets the option. If that comes too late, or is not necessary, it only compares.
func (o *option) set(fd int, bound bool) error {
	if bound {
		if value, err := unix.GetsockoptInt(fd, o.level, o.name); err == nil && value == o.value {
			return nil
		}
		if o.early {
			return errors.New("it was opened in another way")
		}
	}
	return unix.SetsockoptInt(fd, o.level, o.name, o.value)
}

// dontFragment makes the socket send datagrams that nobody fragments, or as usual again. For IPv4
// there is no way to ask for that in a single call (ip(7)). A failure is harmless: the datagram is
// sent as usual, and a path may seem wider than it is, as if nobody had asked. The caller holds
// sending, and has entered ref.
func (s *Socket) dontFragment(on bool) {
	discover, whole := noPathMTU4.value, 0
	if on {
		// DF, and no regard for a path MTU that the kernel has learned.
		discover, whole = unix.IP_PMTUDISC_PROBE, 1
	}
	_ = unix.SetsockoptInt(s.ref.FD(), unix.SOL_IP, unix.IP_MTU_DISCOVER, discover)
	if s.v6 {
		_ = unix.SetsockoptInt(s.ref.FD(), unix.SOL_IPV6, unix.IPV6_DONTFRAG, whole)
	}
}

// enlarge sets a buffer to bufferBytes: past the sysctl limit where CAP_NET_ADMIN allows, else up
// to it.
func enlarge(fd, force, plain int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bufferBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, bufferBytes)
	}
}

// NewSender returns a Sender with scratch of its own, for one goroutine at a time.
func (s *Socket) NewSender() Sender { return newSender(s) }

// Port returns the local UDP port.
func (s *Socket) Port() uint16 { return s.port }

// Features returns what the socket can do at present.
func (s *Socket) Features() Features {
	return Features{IPv6: s.v6, GRO: s.gro, GSO: s.gsoUsable(), Fallbacks: s.fallbacks.Load()}
}

// Overflows returns how many datagrams were dropped because the receive buffer was full. The kernel
// tells with the datagrams that follow, so the figure may lag.
func (s *Socket) Overflows() uint64 { return s.overflows.Load() }

// SetMark sets SO_MARK; 0 is none. It needs CAP_NET_ADMIN.
func (s *Socket) SetMark(mark uint32) error {
	if !s.ref.Enter() {
		return net.ErrClosed
	}
	defer s.ref.Leave()
	if err := unix.SetsockoptInt(s.ref.FD(), unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("udp socket: set fwmark %#x: %w", mark, err)
	}
	return nil
}

// Close wakes a waiting Receive and ends every call with net.ErrClosed. The descriptor itself is
// closed when the last call has returned, which Close does not wait for.
func (s *Socket) Close() error {
	if !s.ref.Shut() {
		return nil
	}
	if s.receiveEnded.Load() {
		s.ref.Leave() // nobody sleeps, and a duplicate of the socket may live on
		return nil
	}
	// ENOTCONN is the answer for a socket that is not connected; the sleepers are woken all the
	// same. Only the receiving half: a Send under way need not fail with EPIPE.
	err := syscall.Shutdown(s.ref.FD(), syscall.SHUT_RD)
	s.ref.Leave()
	if err != nil && !errors.Is(err, syscall.ENOTCONN) {
		return fmt.Errorf("close udp socket: %w", err)
	}
	return nil
}

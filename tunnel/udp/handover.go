package udp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A socket may outlive its process: a duplicate of its descriptor is kept elsewhere and given to
// the next one (FromFD), and what arrives meanwhile waits in the socket. So it must not be shut
// down, which cannot be undone and would concern the duplicate; a receiver that waits in the kernel
// is woken by a signal instead.

// interruptible is the timeout of a waiting receive, in seconds: 12 days. A receive with a timeout,
// however long, ends with EINTR after a signal; one without is begun again by the kernel
// (signal(7)).
const interruptible = 1 << 20

// wakeable makes signals end a receive that waits. A kernel that refuses only costs the handover.
func wakeable(fd int) {
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: interruptible})
}

// StopReceiving implements Conn.
func (s *Socket) StopReceiving() {
	s.receiveEnded.Store(true)
	interruptThreads()
}

// interruptThreads sends each thread of this process the signal that the Go runtime sends them at
// any time (to preempt goroutines) and otherwise ignores: system calls that wait end with EINTR.
func interruptThreads() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return // the receiver is not woken; whoever waits for it has a limit
	}
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
		}
	}
}

// Dup returns a duplicate of the descriptor, which is the caller's. It keeps the socket, with what
// waits in it, after Close, if StopReceiving was called before that.
func (s *Socket) Dup() (int, error) {
	if !s.ref.Enter() {
		return -1, net.ErrClosed
	}
	defer s.ref.Leave()
	fd, err := unix.FcntlInt(uintptr(s.ref.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate udp socket: %w", err)
	}
	return fd, nil
}

// FromFD takes over a bound socket, which another process opened with the same options. A port of 0
// in o is any port. It owns fd from the start: when it fails, fd is closed.
func FromFD(fd int, o Options) (_ *Socket, err error) {
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			err = fmt.Errorf("take over udp socket: %w", err)
		}
	}()
	ask := func(name int) int {
		value, askErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		err = errors.Join(err, askErr)
		return value
	}
	family, kind, protocol := ask(unix.SO_DOMAIN), ask(unix.SO_TYPE), ask(unix.SO_PROTOCOL)
	if err != nil {
		return nil, err
	}
	if kind != unix.SOCK_DGRAM || protocol != unix.IPPROTO_UDP || family != unix.AF_INET && family != unix.AF_INET6 ||
		o.IPv4Only && family != unix.AF_INET {
		return nil, errors.New("it was opened in another way")
	}
	s := &Socket{v6: family == unix.AF_INET6}
	if err := required(fd, o, family, true); err != nil {
		return nil, err
	}
	if err := s.begin(fd, o); err != nil {
		return nil, err
	}
	if o.Port != 0 && o.Port != s.port {
		return nil, fmt.Errorf("it is bound to port %d", s.port)
	}
	return s, nil
}

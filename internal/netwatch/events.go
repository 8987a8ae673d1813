package netwatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// eventBuffer is the size in bytes of the buffer for one datagram of the kernel. NLMSG_GOODSIZE
// is at most 8 KB; link messages with many attributes are larger.
const eventBuffer = 64 << 10

// eventQueue is the receive buffer that a socket asks for, in bytes. The flap of a routing daemon
// with some thousand routes fits. An overflow is harmless: the reader is told that messages were
// lost, and reads everything again.
const eventQueue = 1 << 20

// maxDrain bounds the datagrams that are discarded after an overflow before the reader is told: it
// is more than the queue holds, and a fraction of a second.
const maxDrain = 16384

// Source is one socket on which the kernel announces changes.
type Source interface {
	// Subscribe makes changes from now on readable.
	Subscribe() error
	// Receive blocks until the next changes. It returns os.ErrClosed after Close and
	// os.ErrDeadlineExceeded after Interrupt. One goroutine at a time may call it.
	Receive() ([]Notice, error)
	// Interrupt ends a blocked Receive and all later ones.
	Interrupt()
	// Close releases the socket.
	Close() error
}

// Open opens the sockets for links, addresses, routes, rules and nftables tables in the calling
// thread's network namespace. They have joined no group yet, so nothing piles up unread. A kernel
// without nfnetlink is no error: then there is no source for nftables.
func Open() ([]Source, error) {
	rt, err := openSocket(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, err
	}
	nft, err := openSocket(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return []Source{rt}, nil
	}
	if err != nil {
		return nil, errors.Join(err, rt.Close())
	}
	return []Source{rt, nft}, nil
}

// Forward sends what a source receives to notices until ctx ends or the source is interrupted or
// closed. The error says why the kernel cannot be listened to any longer.
func Forward(ctx context.Context, source Source, notices chan<- []Notice) error {
	for {
		batch, err := source.Receive()
		if errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case notices <- batch:
		case <-ctx.Done():
			return nil
		}
	}
}

// socket is a netlink socket and the multicast groups that it joins.
type socket struct {
	file   *os.File
	conn   syscall.RawConn
	groups []int
	buf    []byte
	// Messages were lost and the queue has not been empty since.
	overrun bool
}

func openSocket(protocol int, groups ...int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
		protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventQueue) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, eventQueue)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &socket{file: file, conn: conn, groups: groups, buf: make([]byte, eventBuffer)}, nil
}

// Subscribe joins the groups.
func (s *socket) Subscribe() error {
	var failed error
	err := s.conn.Control(func(fd uintptr) {
		failed = unix.Bind(int(fd), &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		for _, group := range s.groups {
			err := unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
			if err != nil && failed == nil {
				failed = fmt.Errorf("join netlink group %d: %w", group, err)
			}
		}
	})
	return errors.Join(err, failed)
}

// Receive reads one datagram after the other until one holds a notice of interest.
func (s *socket) Receive() ([]Notice, error) {
	for {
		b, err := s.read()
		if errors.Is(err, unix.ENOBUFS) {
			return []Notice{{Kind: Overflow}}, nil
		}
		if err != nil {
			return nil, err
		}
		if notices := parseNotices(b); len(notices) > 0 {
			return notices, nil
		}
	}
}

// read returns the next datagram of the kernel, which is valid until the next call. The error
// matches ENOBUFS if messages were lost. The kernel says so once, and then goes on losing messages
// silently until the queue was empty (netlink_overrun in af_netlink.c); therefore what waits in the
// queue is discarded first, so that what the caller reads now is not older than what was lost.
func (s *socket) read() ([]byte, error) {
	for {
		n, from, err := s.receive(true)
		if overflow := errors.Is(err, unix.ENOBUFS); err != nil && !overflow {
			return nil, err
		} else if overflow || s.overrun {
			s.overrun = !s.drain()
			return nil, unix.ENOBUFS
		}
		// Any process may send to our port; only messages of the kernel count.
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 {
			return s.buf[:n], nil
		}
	}
}

// drain discards what waits in the queue, and reports whether the queue was empty in the end.
func (s *socket) drain() bool {
	for range maxDrain {
		if _, _, err := s.receive(false); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return errors.Is(err, unix.EAGAIN)
		}
	}
	return false
}

// receive receives one datagram. Unless it is to wait for it, the error is EAGAIN if there is none.
func (s *socket) receive(wait bool) (n int, from unix.Sockaddr, err error) {
	var failed error
	err = s.conn.Read(func(fd uintptr) bool {
		for {
			n, from, failed = unix.Recvfrom(int(fd), s.buf, 0)
			if failed != unix.EINTR {
				return !wait || failed != unix.EAGAIN
			}
		}
	})
	if err == nil && failed != nil {
		err = os.NewSyscallError("recvfrom netlink", failed)
	}
	return n, from, err
}

// Interrupt sets a read deadline in the past.
func (s *socket) Interrupt() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }

// Close closes the socket.
func (s *socket) Close() error { return s.file.Close() }

package route

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// eventBuffer holds one datagram of the kernel: NLMSG_GOODSIZE is at most 8 KB, link messages with many
// attributes are larger.
const eventBuffer = 64 << 10

// eventQueue is the receive buffer asked for, in bytes: a route daemon's flap of some thousand routes fits. More
// makes an overflow, which is harmless: everything is read again.
const eventQueue = 1 << 20

// socketEvents is a netlink socket joined to groups.
type socketEvents struct {
	file   *os.File
	conn   syscall.RawConn
	groups []int
	buf    []byte
}

// openEvents opens the sockets in the calling thread's network namespace. They join no group yet, so nothing
// piles up unread.
func openEvents() ([]eventSource, error) {
	rt, err := openEventSocket(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, err
	}
	nft, err := openEventSocket(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return []eventSource{rt}, nil // a kernel without nfnetlink
	}
	if err != nil {
		return nil, errors.Join(err, rt.close())
	}
	return []eventSource{rt, nft}, nil
}

func openEventSocket(protocol int, groups ...int) (eventSource, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
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
	return &socketEvents{file: file, conn: conn, groups: groups, buf: make([]byte, eventBuffer)}, nil
}

func (s *socketEvents) subscribe() error {
	var failed error
	err := s.conn.Control(func(fd uintptr) {
		failed = unix.Bind(int(fd), &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		for _, group := range s.groups {
			err := unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
			if err != nil && failed == nil {
				failed = fmt.Errorf("netlink group %d: %w", group, err)
			}
		}
	})
	return errors.Join(err, failed)
}

func (s *socketEvents) receive() ([]notice, error) {
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := s.conn.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), s.buf, 0)
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil:
			return nil, err
		case failed == unix.EINTR:
			continue
		case failed == unix.ENOBUFS:
			return []notice{{kind: noticeOverflow}}, nil
		case failed != nil:
			return nil, os.NewSyscallError("recvfrom netlink", failed)
		}
		// Any process may send to our port; only the kernel's word counts.
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue
		}
		if notices := parseNotices(s.buf[:n]); len(notices) > 0 {
			return notices, nil
		}
	}
}

func (s *socketEvents) interrupt() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }

func (s *socketEvents) close() error { return s.file.Close() }

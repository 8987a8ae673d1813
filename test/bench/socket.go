package main

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The workers use blocking sockets of their own instead of package net: at 10⁵ packets a second the
// poller and its goroutine switches would be most of what is measured.

// socketBuffer is large enough that the workers' sockets are never where a datagram is lost.
const socketBuffer = 16 << 20

// udpSocket is a blocking IPv4 UDP socket, bound to local or connected to remote, whichever is
// valid.
func udpSocket(local, remote netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer))
	if err == nil && local.IsValid() {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(local.Port()), Addr: local.Addr().As4()})
	}
	if err == nil && remote.IsValid() {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(remote.Port()), Addr: remote.Addr().As4()})
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("socket %v to %v: %w", local, remote, err)
	}
	return fd, nil
}

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

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

// batchSize is how many datagrams one system call moves at most.
const batchSize = 64

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// batch is a set of buffers for sendmmsg and recvmmsg.
type batch struct {
	buffers [batchSize][]byte
	vectors [batchSize]unix.Iovec
	headers [batchSize]mmsghdr
}

// newBatch makes buffers of size bytes each.
func newBatch(size int) *batch {
	b := &batch{}
	for i := range b.buffers {
		b.buffers[i] = make([]byte, size)
		b.vectors[i].Base = &b.buffers[i][0]
		b.vectors[i].SetLen(size)
		b.headers[i].header.Iov = &b.vectors[i]
		b.headers[i].header.SetIovlen(1)
	}
	return b
}

// send sends the first n buffers and returns how many the kernel took. A full queue below (ENOBUFS)
// is not an error: the datagram is lost, and the receiver's count shows it.
func (b *batch) send(fd, n int) (int, error) {
	return b.call(unix.SYS_SENDMMSG, fd, n, 0)
}

// receive waits for at least one datagram.
func (b *batch) receive(fd int) (int, error) {
	return b.call(unix.SYS_RECVMMSG, fd, batchSize, unix.MSG_WAITFORONE)
}

func (b *batch) call(number uintptr, fd, n, flags int) (int, error) {
	for {
		done, _, errno := unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])), uintptr(n), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return int(done), nil
		case unix.EINTR:
			continue
		case unix.ENOBUFS, unix.ECONNREFUSED:
			return 0, nil
		}
		return 0, errno
	}
}

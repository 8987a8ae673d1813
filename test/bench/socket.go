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
	count   int // buffers in use
	next    int // the first that is sent next
	buffers [batchSize][]byte
	vectors [batchSize]unix.Iovec
	headers [batchSize]mmsghdr
}

// newBatch makes buffers whose sizes in bytes are those given, over and over.
func newBatch(sizes ...int) *batch {
	b := &batch{count: batchSize - batchSize%len(sizes)}
	for i := range b.buffers[:b.count] {
		size := sizes[i%len(sizes)]
		b.buffers[i] = make([]byte, size)
		b.vectors[i].Base = &b.buffers[i][0]
		b.vectors[i].SetLen(size)
		b.headers[i].header.Iov = &b.vectors[i]
		b.headers[i].header.SetIovlen(1)
	}
	return b
}

// send offers up to n of the buffers, in turn, to the kernel, and returns how many. What it does
// not take, because a queue below is full (ENOBUFS), is lost, and the receiver's count shows it.
func (b *batch) send(fd, n int) (offered int, err error) {
	offered = min(n, b.count-b.next)
	_, err = b.call(unix.SYS_SENDMMSG, fd, b.headers[b.next:][:offered], 0)
	b.next = (b.next + offered) % b.count
	return offered, err
}

// receive waits for at least one datagram.
func (b *batch) receive(fd int) (int, error) {
	return b.call(unix.SYS_RECVMMSG, fd, b.headers[:b.count], unix.MSG_WAITFORONE)
}

func (b *batch) call(number uintptr, fd int, headers []mmsghdr, flags int) (int, error) {
	for {
		done, _, errno := unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), uintptr(flags), 0, 0)
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

package tundev

import (
	"encoding/binary"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"tund/internal/fdref"
)

// queue implements Queue on a descriptor in non-blocking mode.
type queue struct {
	ref  *fdref.Ref
	vnet bool // the kernel puts a virtio_net_hdr in front of each packet
	wake int  // eventfd that ends the wait of Read; closed with the descriptor

	poll [2]unix.PollFd // scratch of Read
}

// newQueue takes over fd. When it fails fd is still the caller's.
func newQueue(fd int, vnet bool) (*queue, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd to wake the reader of the device: %w", err)
	}
	q := &queue{ref: fdref.New(fd, wake), vnet: vnet, wake: wake}
	q.poll = [2]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	return q, nil
}

// Read implements Queue.
func (q *queue) Read(buf []byte, wait bool) (int, error) {
	if len(buf) <= HeaderSize {
		return 0, syscall.EINVAL
	}
	if !q.ref.Enter() {
		return 0, net.ErrClosed
	}
	defer q.ref.Leave()
	into, offset := buf, 0
	if !q.vnet {
		clear(buf[:HeaderSize])
		into, offset = buf[HeaderSize:], HeaderSize
	}
	for {
		n, _, errno := syscall.Syscall(unix.SYS_READ, uintptr(q.ref.FD()),
			uintptr(unsafe.Pointer(unsafe.SliceData(into))), uintptr(len(into)))
		switch {
		case errno == 0:
			// Also if the queue was closed meanwhile: the packet is in no ring any more.
			return int(n) + offset, nil
		case q.ref.Closing():
			return 0, net.ErrClosed
		case errno == unix.EAGAIN && !wait:
			return 0, nil
		case errno == unix.EAGAIN:
			if err := q.await(); err != nil {
				return 0, err
			}
		case errno != unix.EINTR:
			return 0, classify(errno)
		}
	}
}

// await sleeps until the device has a packet or an error to tell, or the queue is closed.
func (q *queue) await() error {
	for {
		_, _, errno := syscall.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&q.poll[0])), 2, 0, 0, 0, 0)
		switch {
		case q.ref.Closing():
			return net.ErrClosed
		case errno == 0:
			return nil
		case errno != unix.EINTR && errno != unix.EAGAIN && errno != unix.ENOMEM:
			return errno
		}
	}
}

// Write implements Queue.
func (q *queue) Write(frame []byte) error {
	if len(frame) <= HeaderSize {
		return ErrRefused
	}
	if !q.vnet {
		if asksForOffload(frame) {
			return ErrRefused
		}
		frame = frame[HeaderSize:]
	}
	if !q.ref.Enter() {
		return net.ErrClosed
	}
	defer q.ref.Leave()
	for {
		_, _, errno := syscall.Syscall(unix.SYS_WRITE, uintptr(q.ref.FD()),
			uintptr(unsafe.Pointer(unsafe.SliceData(frame))), uintptr(len(frame)))
		switch {
		case errno == 0:
			return nil
		case errno != unix.EINTR:
			return classify(errno)
		}
	}
}

// asksForOffload reports whether the header in front of frame asks for anything that a plain device
// lacks.
func asksForOffload(frame []byte) bool {
	const needsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	return frame[0]&needsChecksum != 0 || frame[1] != 0
}

// Close implements Queue.
func (q *queue) Close() error {
	if !q.ref.Shut() {
		return nil
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, err := unix.Write(q.wake, one[:])
	q.ref.Leave()
	if err != nil {
		return fmt.Errorf("wake the reader of a device queue: %w", err)
	}
	return nil
}

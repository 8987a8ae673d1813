package linkbench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Blocking sockets instead of package net: with 10⁵ packets a second, the runtime's poller would be
// much of what is measured.

// socketBuffer, in bytes, is large enough that packets are lost on the way and not in a socket.
const socketBuffer = 16 << 20

// socket opens an IPv4 socket in a namespace and prepares it there.
func (s *space) socket(kind int, prepare func(fd int) error) (fd int, err error) {
	err = s.do(func() error {
		fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		if err := prepare(fd); err != nil {
			_ = unix.Close(fd)
			return err
		}
		return nil
	})
	return fd, err
}

// sockaddr returns the address of a port in the form that the kernel takes.
func sockaddr(at netip.Addr, port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: at.As4(), Port: port}
}

// portOf is the local port of a socket.
func portOf(fd int) (int, error) {
	a, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("read the port of a socket: %w", err)
	}
	four, ok := a.(*unix.SockaddrInet4)
	if !ok {
		return 0, errors.New("read the port of a socket: its address is not IPv4")
	}
	return four.Port, nil
}

// udpAt opens a socket for the receiver of the stage, at a port that the kernel chooses.
func (st *stage) udpAt() (fd, port int, err error) {
	fd, err = st.to.socket(unix.SOCK_DGRAM, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer); err != nil {
			return fmt.Errorf("enlarge the buffer of a socket: %w", err)
		}
		if err := unix.Bind(fd, sockaddr(st.at, 0)); err != nil {
			return fmt.Errorf("bind a socket to %v: %w", st.at, err)
		}
		port, err = portOf(fd)
		return err
	})
	return fd, port, err
}

// udpTo opens a socket that is connected with a port of the receiver.
func (st *stage) udpTo(port int) (int, error) {
	return st.from.socket(unix.SOCK_DGRAM, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer); err != nil {
			return fmt.Errorf("enlarge the buffer of a socket: %w", err)
		}
		if err := unix.Connect(fd, sockaddr(st.at, port)); err != nil {
			return fmt.Errorf("connect a socket with %v: %w", st.at, err)
		}
		return nil
	})
}

// patience is how long a thread stays in one system call: after that it looks whether it is to end.
const patience = 100 * time.Millisecond

// impatient bounds what a socket waits for.
func impatient(fd int) error {
	wait := unix.NsecToTimeval(int64(patience))
	return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait))
}

// Package rtnl exchanges single messages with the kernel's rtnetlink: those of which an instance
// sends several for each peer, to look up a path or to change a route. The netlink library takes a
// new buffer of 64 KiB for every answer, which is 2 GB for a start with ten thousand peers. A Conn
// has one buffer for all.
//
// It neither dumps tables, which package path does, nor listens to notifications (package
// netwatch). What the messages mean is up to the callers.
//
// Sources: netlink(7), rtnetlink(7).
package rtnl

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// answerSize is the size of the buffer for an answer, in bytes: a link with many attributes has
// some kilobytes.
const answerSize = 32 << 10

// Conn is a socket in the network namespace of the thread that opened it. It belongs to one
// goroutine at a time.
type Conn struct {
	fd      int
	seq     uint32
	request []byte
	answer  []byte
}

// Open opens a socket. timeout bounds the wait for one answer.
func Open(timeout time.Duration) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	limit := unix.NsecToTimeval(int64(timeout))
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Conn{fd: fd, answer: make([]byte, answerSize)}, nil
}

// Close closes the socket. It is called once.
func (c *Conn) Close() error { return os.NewSyscallError("close", unix.Close(c.fd)) }

// Do sends a message of the given type, with a body and with NLM_F_REQUEST beside flags, and
// returns the body of the message by which the kernel answers; nil, if that is only an
// acknowledgement. The body is valid until the next call. When the kernel refuses, the error is its
// unix.Errno; the library's errors for the same are no different.
func (c *Conn) Do(typ, flags uint16, body []byte) (answer []byte, err error) {
	c.seq++
	b := binary.NativeEndian.AppendUint32(c.request[:0], uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, c.seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // from whom: the kernel knows
	c.request = append(b, body...)
	if _, err := again(func() (int, error) { return unix.Write(c.fd, c.request) }); err != nil {
		return nil, os.NewSyscallError("write to netlink", err)
	}
	for {
		n, err := c.receive()
		if err != nil {
			return nil, err
		}
		if answer, found, err := c.find(c.answer[:n]); found || err != nil {
			return answer, err
		}
	}
}

// again repeats a system call that a signal has interrupted.
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != unix.EINTR {
			return n, err
		}
	}
}

// receive reads the next datagram of the kernel. Any privileged process may send to our port.
func (c *Conn) receive() (n int, err error) {
	for {
		var from unix.Sockaddr
		n, err = again(func() (n int, err error) {
			n, from, err = unix.Recvfrom(c.fd, c.answer, 0)
			return n, err
		})
		if err != nil {
			return 0, os.NewSyscallError("read from netlink", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 {
			return n, nil
		}
	}
}

// find returns the answer to the last request, if it is among the messages in b: a request before
// may have been given up.
func (c *Conn) find(b []byte) (answer []byte, found bool, err error) {
	for typ, message := range Messages(b) {
		body := message[unix.SizeofNlMsghdr:]
		switch {
		case binary.NativeEndian.Uint32(message[8:]) != c.seq:
		case typ == unix.NLMSG_ERROR:
			return nil, true, refusal(body)
		default:
			return body, true, nil
		}
	}
	return nil, false, nil
}

// refusal is the error of a struct nlmsgerr; nil for an acknowledgement.
func refusal(body []byte) error {
	if len(body) < 4 {
		return unix.EBADMSG
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

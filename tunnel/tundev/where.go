package tundev

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Namespace opens the network namespace that the device is in now: it may have been moved since it
// was opened. The file is the caller's, and keeps that namespace alive, with the device in it,
// until it is closed: whoever does not want to be the reason why a namespace outlives `ip netns
// delete` closes it soon. The error is ErrGone when the device was deleted, and another one where
// the kernel does not tell (Linux before 5.2, or no CAP_NET_ADMIN over there).
func (d *Device) Namespace() (*os.File, error) {
	ref := d.queues[0].ref
	if !ref.Enter() {
		return nil, ErrGone
	}
	defer ref.Leave()
	fd, err := unix.IoctlRetInt(ref.FD(), unix.TUNGETDEVNETNS)
	switch {
	case errors.Is(err, unix.EBADFD):
		return nil, ErrGone
	case err != nil:
		return nil, fmt.Errorf("network namespace of the device: %w", err)
	}
	return os.NewFile(uintptr(fd), "netns"), nil
}

// Up reports whether the device is up, in whatever namespace it is; known is false when it was
// deleted. It needs no privilege: the kernel calls the descriptor writable exactly while the device
// is up. (wireguard-go's trick, an empty write that fails in two ways, tells nothing any more:
// Linux looks at the length first.)
func (d *Device) Up() (up, known bool) {
	ref := d.queues[0].ref
	if !ref.Enter() {
		return false, false
	}
	defer ref.Leave()
	fds := [1]unix.PollFd{{Fd: int32(ref.FD()), Events: unix.POLLOUT}}
	for {
		_, err := unix.Poll(fds[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return fds[0].Revents&unix.POLLOUT != 0, err == nil && fds[0].Revents&unix.POLLERR == 0
	}
}

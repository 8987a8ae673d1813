package tundev

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// FromFD makes a Device of fd, one queue of a TUN or TAP device that somebody else opened and
// handed to us (WG_TUN_FD). Its kind and whether it has virtio headers are taken from the kernel,
// and offloads are asked for where it has them. It must have been opened with IFF_NO_PI, which
// cannot be checked: the kernel reports the same bit for "no filter" (IFF_NOFILTER), so it is
// nearly always set. FromFD owns fd from the start: it is closed when FromFD fails. fd becomes
// non-blocking, which whoever shares it will notice.
func FromFD(fd int) (_ *Device, err error) {
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			err = fmt.Errorf("tun device from descriptor %d: %w", fd, err)
		}
	}()
	name, flags, err := getiff(fd)
	if errors.Is(err, unix.EBADFD) {
		return nil, fmt.Errorf("no device is attached to it: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("not an open %s: %w", clonePath, err)
	}
	d := &Device{kind: TUN}
	if flags&unix.IFF_TAP != 0 {
		d.kind = TAP
	}
	vnet := flags&unix.IFF_VNET_HDR != 0
	if vnet {
		if d.features, err = setOffloads(fd); err != nil {
			return nil, err
		}
	} else {
		d.fallback = "the inherited descriptor was opened without IFF_VNET_HDR"
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("set close-on-exec: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("set non-blocking: %w", err)
	}
	if index, err := ask(name, unix.SIOCGIFINDEX); err == nil {
		d.index = int(index) // else it lives in another network namespace
	}
	q, err := newQueue(fd, vnet)
	if err != nil {
		return nil, err
	}
	d.queues = []*queue{q}
	return d, nil
}

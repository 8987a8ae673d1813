package linkbench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// deviceMode says which packets a device carries (linux/if_tun.h).
type deviceMode uint16

const (
	deviceTUN deviceMode = unix.IFF_TUN
	deviceTAP deviceMode = unix.IFF_TAP
)

// Offloads that a program with IFF_VNET_HDR may accept; UDP's came with Linux 6.2.
const (
	tcpOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	udpOffloads = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// openDevice makes a TUN or TAP device in a namespace, blocking.
func (s *space) openDevice(name string, mode deviceMode, offload bool) (fd int, err error) {
	err = s.do(func() error {
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if lacks(err) {
			return &absent{fmt.Sprintf("/dev/net/tun: %v", err)}
		}
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		if err := setDevice(fd, name, mode, offload); err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("make the device %s: %w", name, err)
		}
		return nil
	})
	return fd, err
}

func setDevice(fd int, name string, mode deviceMode, offload bool) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	flags := uint16(mode) | unix.IFF_NO_PI
	if offload {
		flags |= unix.IFF_VNET_HDR
	}
	r.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return err
	}
	if !offload {
		return nil
	}
	err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcpOffloads|udpOffloads)
	if errors.Is(err, unix.EINVAL) {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcpOffloads)
	}
	return err
}

// copyBuffer, in bytes, holds a superpacket with its virtio header.
const copyBuffer = 68 << 10

// copied builds two hosts with a device each, and copies what one sends to the other, with one
// system call to read and one to write a packet.
func copied(mode deviceMode, offload bool) func(context.Context, *stage) error {
	return func(_ context.Context, st *stage) error {
		var ends [2]struct {
			s  *space
			fd int
		}
		for n, at := range []netip.Prefix{left, right} {
			s, err := st.space()
			if err != nil {
				return err
			}
			fd, err := s.openDevice(above, mode, offload)
			if err != nil {
				return err
			}
			ends[n].s, ends[n].fd = s, fd
			st.later(func() { _ = unix.Close(fd) })
			if err := s.address(above, at); err != nil {
				return err
			}
		}
		for n := range ends {
			from, to, done := ends[n].fd, ends[1-n].fd, make(chan struct{})
			go func() {
				defer close(done)
				copyPackets(from, to)
			}()
			st.later(func() {
				// A read of a device that has been removed ends.
				if l, err := ends[n].s.links.LinkByName(above); err == nil {
					_ = ends[n].s.links.LinkDel(l)
				}
				<-done
			})
		}
		st.flow(ends[0].s, above, ends[1].s, right.Addr())
		return nil
	}
}

// copyPackets runs until the device that it reads from is gone.
func copyPackets(from, to int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf := make([]byte, copyBuffer)
	for {
		n, err := unix.Read(from, buf)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
		case err != nil:
			return
		default:
			_, _ = unix.Write(to, buf[:n]) // what the other host refuses is lost, as on a cable
		}
	}
}

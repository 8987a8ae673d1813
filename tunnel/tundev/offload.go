package tundev

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// path of the device that makes devices.
const clonePath = "/dev/net/tun"

// tunExclusive is IFF_TUN_EXCL: fail rather than join a device that exists. Source: linux/if_tun.h.
const tunExclusive = 0x8000

// rung is a set of offloads asked for together.
type rung struct {
	bits     uintptr
	features Features
}

// ladder lists what to ask of TUNSETOFFLOAD, best first: each kernel takes the first rung it knows.
// USO4 and USO6 must come together (drivers/net/tun.c, set_offload).
var ladder = [...]rung{
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6,
		Features{Checksum: true, TSO: true, USO: true}},
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN, Features{Checksum: true, TSO: true}},
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, Features{Checksum: true, TSO: true}},
	{unix.TUN_F_CSUM, Features{Checksum: true}},
	{0, Features{}},
}

// climb sets the best offloads the kernel takes. set is TUNSETOFFLOAD.
func climb(set func(bits uintptr) error) (Features, error) {
	var first error
	for _, r := range ladder {
		err := set(r.bits)
		if err == nil {
			return r.features, nil
		}
		if first == nil {
			first = err
		}
	}
	return Features{}, fmt.Errorf("set offloads: %w", first)
}

// openOffload opens the device with virtio headers.
func openOffload(o Options) (_ *Device, err error) {
	d := &Device{kind: o.Kind}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	name, flags := o.Name, flagsOf(o)|unix.IFF_VNET_HDR
	for i := range o.Queues {
		more := uint16(0)
		if i == 0 {
			more = tunExclusive
		}
		name, err = d.openQueue(name, flags|more)
		if err != nil {
			return nil, err
		}
	}
	fd := d.queues[0].ref.FD()
	d.features, err = setOffloads(fd)
	if err != nil {
		return nil, err
	}
	index, err := ask(name, unix.SIOCGIFINDEX)
	if err != nil {
		return nil, fmt.Errorf("read the index of %s: %w", name, err)
	}
	d.index = int(index)
	return d, nil
}

// setOffloads fixes the header's size and asks for offloads.
func setOffloads(fd int) (Features, error) {
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderSize); err != nil {
		return Features{}, fmt.Errorf("set virtio header size: %w", err)
	}
	return climb(func(bits uintptr) error { return ioctl(fd, unix.TUNSETOFFLOAD, bits) })
}

// flagsOf returns the TUNSETIFF flags for o.
func flagsOf(o Options) uint16 {
	flags := uint16(unix.IFF_TUN)
	if o.Kind == TAP {
		flags = unix.IFF_TAP
	}
	flags |= unix.IFF_NO_PI
	if o.Queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	return flags
}

// openQueue opens one more queue and returns the device's name.
func (d *Device) openQueue(name string, flags uint16) (_ string, err error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", clonePath, err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if name != "" && flags&tunExclusive != 0 {
		// Without this a device of another kind is refused with EINVAL, which says nothing.
		if _, err := ask(name, unix.SIOCGIFINDEX); err == nil {
			return "", ErrExists
		}
	}
	name, err = setiff(fd, name, flags)
	if err == unix.EBUSY && flags&tunExclusive != 0 {
		return "", ErrExists
	}
	if err != nil {
		return "", fmt.Errorf("create the device: %w", err)
	}
	q, err := newQueue(fd, flags&unix.IFF_VNET_HDR != 0)
	if err != nil {
		return "", err
	}
	d.queues = append(d.queues, q)
	return name, nil
}

package tundev

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl passes a number, as TUNSETOFFLOAD and its like want it.
func ioctl(fd int, request, value uintptr) error {
	if _, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), request, value); errno != 0 {
		return errno
	}
	return nil
}

// setiff makes, or joins, the device and returns its name.
func setiff(fd int, name string, flags uint16) (string, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return "", err
	}
	return req.Name(), nil
}

// getiff returns the name and flags of the device behind a queue.
func getiff(fd int) (name string, flags uint16, err error) {
	req, err := unix.NewIfreq("")
	if err != nil {
		return "", 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
		return "", 0, err
	}
	return req.Name(), req.Uint16(), nil
}

// ask puts a question about an interface (SIOCGIFINDEX, SIOCGIFMTU) to this process' network
// namespace.
func ask(name string, request uint) (uint32, error) { return interfaceIoctl(name, request, 0) }

// interfaceIoctl performs a request about an interface that takes and returns a number.
func interfaceIoctl(name string, request uint, value uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	req.SetUint32(value)
	if err := unix.IoctlIfreq(fd, request, req); err != nil {
		return 0, err
	}
	return req.Uint32(), nil
}

// setMTU sets an interface's MTU.
func setMTU(name string, mtu int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint32(uint32(mtu))
	return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, req)
}

// setMAC sets the Ethernet address of the device behind a queue of a TAP.
func setMAC(fd int, mac [6]byte) error {
	// struct ifreq with a struct sockaddr in it, for which unix.Ifreq has no method. A tun device
	// takes the request at its own descriptor and ignores the name. Source: netdevice(7),
	// drivers/net/tun.c.
	request := struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		data   [14]byte
		_      [8]byte // the kernel copies 40 bytes
	}{family: unix.ARPHRD_ETHER}
	copy(request.data[:], mac[:])
	_, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

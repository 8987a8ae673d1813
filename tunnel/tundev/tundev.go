// Package tundev opens TUN and TAP devices and moves packets and frames through their queues.
//
// A Device has one of two backends. The offload backend opens /dev/net/tun itself and asks for
// IFF_VNET_HDR, so that superpackets of 64 KB cross in one read or write. The plain backend opens
// the device with songgao/water, which cannot ask for that; it presents the same 10-byte header,
// all zero. Callers see the difference only in Features.
//
// The package does not set IP addresses, the MTU, the link state or the GSO limits of the device.
// Package route does the first three; lowering the GSO limits makes the kernel cut forwarded
// superpackets into single packets (docs/performance.md). It never looks into a packet.
//
// Concurrency: a Queue may be used by one reader and any number of writers at the same time; Close
// may be called by any goroutine at any time.
//
// Sources: Linux Documentation/networking/tuntap.rst, drivers/net/tun.c,
// include/uapi/linux/virtio_net.h.
package tundev

import (
	"errors"
	"syscall"
)

// Kind says what a device carries.
type Kind int

// The kinds of device.
const (
	TUN Kind = iota // IP packets
	TAP             // Ethernet frames
)

// String returns "tun" or "tap".
func (k Kind) String() string {
	if k == TAP {
		return "tap"
	}
	return "tun"
}

// HeaderSize is the length of the virtio_net_hdr in front of each packet read or written.
//
//	0      1         2        4         6           8            10
//	flags ‖ gso type ‖ hdr len ‖ gso size ‖ csum start ‖ csum offset ‖ packet …
//
// The 16-bit fields have the byte order of the machine. Source: include/uapi/linux/virtio_net.h.
const HeaderSize = 10

// MaxRead is the size of a buffer that holds whatever one Read may return: the header, the largest
// superpacket (tun's gso_max_size is 65,536 and cannot be raised), and an Ethernet header with two
// VLAN tags.
const MaxRead = HeaderSize + 65536 + 22

// MaxQueues is how many queues one device may have. Source: MAX_TAP_QUEUES, drivers/net/tun.c.
const MaxQueues = 256

var (
	// ErrGone means that the link was deleted under us. The queue will never work again; close the
	// device.
	ErrGone = errors.New("the network device was deleted")
	// ErrDown means that the link is down, so the packet was not taken. Writing works again once it
	// is up.
	ErrDown = errors.New("the network device is down")
	// ErrRefused means that the kernel does not accept this header with this packet, or the plain
	// backend was handed a header that asks for offload. The packet was not taken; write it again
	// in segments with all-zero headers.
	ErrRefused = errors.New("the network device refused the packet")
	// ErrExists means that a device of that name exists already and is not ours.
	ErrExists = errors.New("the network device exists already")
)

// Features is what Write accepts in a header, and Read may return in one.
type Features struct {
	Checksum bool // NEEDS_CSUM: the checksum field holds the pseudo-header's sum only
	TSO      bool // TCP superpackets, IPv4 and IPv6, ECN included
	USO      bool // UDP superpackets (UDP_L4), IPv4 and IPv6; Linux 6.2
}

// Queue is one queue of a device.
type Queue interface {
	// Read reads one packet (TUN) or frame (TAP), superpackets included, into buf, behind the
	// 10-byte virtio_net_hdr at buf[:HeaderSize]; n counts the header. What does not fit in buf is
	// cut off, so buf has MaxRead bytes. With wait it blocks until there is a packet, also while
	// the link is down; without, it returns 0, nil when there is none. It fails with net.ErrClosed
	// after Close and with ErrGone when the link was deleted; those two end a loop, any other error
	// is to be counted. It allocates nothing. One goroutine at a time.
	Read(buf []byte, wait bool) (n int, err error)
	// Write hands the kernel one packet or frame behind its 10-byte header. The kernel's receive
	// path runs inside the call; frame may be used again when it returns. Errors: ErrRefused,
	// ErrDown, ErrGone, net.ErrClosed, or a syscall.Errno (ENOBUFS, ENOMEM: the packet is lost, the
	// next may pass). It never waits and allocates nothing.
	Write(frame []byte) error
	// Close makes a Read that waits, and every later call, return net.ErrClosed. It does not wait
	// for them. Closing again does nothing.
	Close() error
}

// Options say which device to open.
type Options struct {
	// Name of the device, at most 15 bytes; "" lets the kernel choose, and a "%d" in it becomes a
	// number.
	Name string
	Kind Kind
	// Offload asks for superpackets; where the kernel refuses, the plain backend takes over.
	Offload bool
	// Queues is the number of queues; 0 means 1. The kernel spreads flows over them.
	Queues int
	// MAC is the Ethernet address of a TAP; all zeros lets the kernel draw one at random.
	MAC [6]byte
}

// classify turns an errno of a read or write into one of this package's errors where it has one.
func classify(errno syscall.Errno) error {
	switch errno {
	case syscall.EBADFD, syscall.EFAULT, syscall.ENODEV, syscall.ENXIO:
		return ErrGone
	case syscall.EIO:
		return ErrDown
	case syscall.EINVAL:
		return ErrRefused
	}
	return errno
}

package udp

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxBatch bounds the messages of one system call. 64 single datagrams amortise the call to a few
// percent of the work on each; the scratch for them is 20 KB.
const maxBatch = 64

// mmsghdr is struct mmsghdr of recvmmsg(2); Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// sockaddr holds a struct sockaddr_in or sockaddr_in6. The union is laid out as the larger.
//
//	sockaddr_in   family u16 ‖ port be16 ‖ addr 4
//	sockaddr_in6  family u16 ‖ port be16 ‖ flow 4 ‖ addr 16 ‖ scope u32
type sockaddr [unix.SizeofSockaddrInet6]byte

// batch is the scratch of one direction: fixed arrays that the headers point into, wired once.
type batch struct {
	hdrs [maxBatch]mmsghdr
	// Two vectors to a message: the bytes, and the tail that kernels with the equal-tail bug need.
	iovs     [maxBatch][2]unix.Iovec
	names    [maxBatch]sockaddr
	controls [maxBatch][controlSpace]byte
}

func (b *batch) init() {
	for i := range b.hdrs {
		h := &b.hdrs[i].hdr
		h.Iov = &b.iovs[i][0]
		h.SetIovlen(1)
		h.Name = &b.names[i][0]
		h.Control = &b.controls[i][0]
	}
}

// addrPort reads a peer's address, unmapped. The zone of a link-local address is its interface
// index, taken from zones so that it is made once.
func (a *sockaddr) addrPort(zones *zoneName) netip.AddrPort {
	port := binary.BigEndian.Uint16(a[2:])
	switch binary.NativeEndian.Uint16(a[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), port)
	case unix.AF_INET6:
		addr := netip.AddrFrom16([16]byte(a[8:24])).Unmap()
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(zones.of(binary.NativeEndian.Uint32(a[24:])))
		}
		return netip.AddrPortFrom(addr, port)
	}
	return netip.AddrPort{}
}

// put writes a receiver's address for a socket of the given family and returns its length, 0 when
// the socket cannot reach that family. scope is the interface of a link-local address.
func (a *sockaddr) put(to netip.AddrPort, scope uint32, v6 bool) uint32 {
	addr := to.Addr()
	if !addr.IsValid() {
		return 0
	}
	binary.BigEndian.PutUint16(a[2:], to.Port())
	if v6 {
		binary.NativeEndian.PutUint16(a[:], unix.AF_INET6)
		clear(a[4:8])
		bytes := addr.As16()
		copy(a[8:24], bytes[:])
		binary.NativeEndian.PutUint32(a[24:], scope)
		return unix.SizeofSockaddrInet6
	}
	addr = addr.Unmap()
	if !addr.Is4() {
		return 0
	}
	binary.NativeEndian.PutUint16(a[:], unix.AF_INET)
	bytes := addr.As4()
	copy(a[4:8], bytes[:])
	clear(a[8:16])
	return unix.SizeofSockaddrInet4
}

// zoneName remembers the name of the interface index seen last.
type zoneName struct {
	index uint32
	name  string
}

func (z *zoneName) of(index uint32) string {
	if index == 0 {
		return ""
	}
	if z.index != index {
		z.index, z.name = index, strconv.FormatUint(uint64(index), 10)
	}
	return z.name
}

// scopeOf returns the interface index for a link-local address: from its zone, by number or by
// name, else the one its last datagram came in by. Other addresses have none. False: there is no
// such interface.
func scopeOf(fd int, to *Endpoint) (index uint32, ok bool) {
	addr := to.Addr.Addr()
	if !addr.Is6() || !addr.IsLinkLocalUnicast() {
		return 0, true
	}
	zone := addr.Zone()
	if zone == "" {
		return to.Ifindex, true
	}
	return zoneIndex(fd, zone)
}

// zoneIndex reads a zone: a number, or a name that is asked for each time, since a remembered index
// would outlive the interface.
func zoneIndex(fd int, zone string) (index uint32, ok bool) {
	var number uint64
	for _, digit := range []byte(zone) {
		if digit < '0' || digit > '9' || number > 1<<31 {
			req, err := unix.NewIfreq(zone)
			if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req) != nil {
				return 0, false
			}
			return req.Uint32(), true
		}
		number = number*10 + uint64(digit-'0')
	}
	return uint32(number), true
}

// setBytes points message i at b.
func (b *batch) setBytes(i int, bytes []byte) {
	b.iovs[i][0].Base = unsafe.SliceData(bytes)
	b.iovs[i][0].SetLen(len(bytes))
}

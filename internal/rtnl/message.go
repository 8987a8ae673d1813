package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// align rounds up to a multiple of four, as all of netlink is (NLMSG_ALIGN, RTA_ALIGN).
func align(n int) int { return (n + 3) &^ 3 }

// Messages yields the netlink messages in b with their headers. It stops at the first that does
// not fit.
func Messages(b []byte) func(yield func(typ uint16, message []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[4:]), b[:size]) {
				return
			}
			b = b[min(len(b), align(size)):]
		}
	}
}

// Attributes yields the netlink attributes in b: struct nlattr, 4-byte aligned; netlink(7). It
// stops at the first that does not fit. Values point into b. Flag bits of the type are cleared.
func Attributes(b []byte) func(yield func(typ uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofNlAttr || size > len(b) {
				return
			}
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min(len(b), align(size)):]
		}
	}
}

// Attribute appends an attribute to the body of a message.
func Attribute(body []byte, typ uint16, value []byte) []byte {
	body = binary.NativeEndian.AppendUint16(body, uint16(unix.SizeofNlAttr+len(value)))
	body = append(binary.NativeEndian.AppendUint16(body, typ), value...)
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	return body
}

// Uint32 appends an attribute that is a number.
func Uint32(body []byte, typ uint16, value uint32) []byte {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], value)
	return Attribute(body, typ, b[:])
}

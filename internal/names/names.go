// Package names validates the names of instances, network devices and peers, and the MAC addresses
// of stations. The configuration, the command line, the control socket and package route share
// these rules. It looks nothing up and does not know which names exist.
//
// An error completes a sentence that begins with the checked text, such as "is longer than 15
// bytes". It does not quote the text, which may be a misplaced secret. All functions are safe for
// concurrent use.
package names

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"
)

// Bounds in bytes.
const (
	MaxDevice   = 15 // IFNAMSIZ of linux/if.h, less the zero byte
	MaxInstance = 64 // it is a part of directories, socket paths and names of nftables tables
	MaxPeer     = 63 // fits a column and a path
)

// NotInPeer are the characters that shells, paths and URLs give a meaning of their own.
const NotInPeer = "\"'`\\/%?#&"

var (
	errEmpty     = errors.New("is empty")
	errDirectory = errors.New("is the name of a directory")
	errAlphabet  = errors.New("has a character other than letters, digits and _=+.-")
	errReserved  = errors.New("is reserved by the kernel")
	errOption    = errors.New("begins like an option")
	errHidden    = errors.New("begins with a dot")
	errPeer      = errors.New("has a space or another character that a name may not have")
	errKernel    = errors.New("has a space, slash or colon, which the kernel refuses")
	errMAC       = errors.New("is not a MAC address (want 02:00:00:00:00:01)")
	errGroup     = errors.New("is a group address, which no station has")
	errZero      = errors.New("is all zeros")
)

// Instance checks the name of an instance, which becomes one element of a path and one word of a
// command line.
func Instance(name string) error {
	switch {
	case len(name) > MaxInstance:
		return tooLong(MaxInstance)
	case name == "." || name == "..":
		return errDirectory
	case strings.HasPrefix(name, "."):
		return errHidden
	case strings.HasPrefix(name, "-"):
		return errOption
	}
	return alphabet(name)
}

// Device checks the name of a network device that tund makes: what wg-quick(8) allows, less the
// names that stand for all devices under /proc/sys/net/ipv4/conf.
func Device(name string) error {
	switch {
	case len(name) > MaxDevice:
		return tooLong(MaxDevice)
	case name == "all" || name == "default":
		return errReserved
	}
	return alphabet(name)
}

// KernelDevice checks the name of a device that somebody else may have made: what the kernel allows
// (dev_valid_name in net/core/dev.c).
func KernelDevice(name string) error {
	switch {
	case name == "":
		return errEmpty
	case len(name) > MaxDevice:
		return tooLong(MaxDevice)
	case name == "." || name == "..":
		return errDirectory
	case strings.ContainsAny(name, "/: \t\n\v\f\r\x00"):
		return errKernel
	}
	return nil
}

// Peer checks the name of a peer: whatever can be printed, typed as one word and put into a path.
func Peer(name string) error {
	switch {
	case name == "":
		return errEmpty
	case len(name) > MaxPeer:
		return tooLong(MaxPeer)
	case name == "." || name == "..":
		return errDirectory
	case strings.HasPrefix(name, "-"):
		return errOption
	}
	for _, r := range name {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune(NotInPeer, r) {
			return errPeer
		}
	}
	return nil
}

// Station reads the MAC address of one Ethernet station, in any form of net.ParseMAC.
func Station(text string) (mac [6]byte, err error) {
	hw, err := net.ParseMAC(text)
	switch {
	case err != nil || len(hw) != len(mac):
		return mac, errMAC
	case hw[0]&1 != 0:
		return mac, errGroup
	}
	copy(mac[:], hw)
	if mac == [6]byte{} {
		return mac, errZero
	}
	return mac, nil
}

func tooLong(limit int) error { return fmt.Errorf("is longer than %d bytes", limit) }

// alphabet allows what wg-quick(8) allows in the name of an interface.
func alphabet(name string) error {
	switch name {
	case "":
		return errEmpty
	case ".", "..":
		return errDirectory
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("_=+.-", r):
		default:
			return errAlphabet
		}
	}
	return nil
}

// SharedStation reports whether a MAC address is one that the routers of a group share, and that
// the router which they elect uses. VRRP (RFC 9568 §7.3) and CARP: 00:00:5e:00:01:xx, and
// 00:00:5e:00:02:xx for IPv6. Cisco: HSRP 00:00:0c:07:ac:xx, 00:00:0c:9f:fx:xx and, for IPv6,
// 00:05:73:a0:0x:xx; GLBP 00:07:b4:00:00:00 to 00:07:b4:03:ff:ff.
func SharedStation(mac [6]byte) bool {
	if mac[0] != 0 {
		return false
	}
	switch [4]byte(mac[1:5]) {
	case [4]byte{0, 0x5e, 0, 1}, [4]byte{0, 0x5e, 0, 2}, [4]byte{0, 0x0c, 0x07, 0xac}:
		return true
	}
	switch [3]byte(mac[1:4]) {
	case [3]byte{0, 0x0c, 0x9f}:
		return mac[4]&0xf0 == 0xf0
	case [3]byte{5, 0x73, 0xa0}:
		return mac[4]&0xf0 == 0
	case [3]byte{7, 0xb4, mac[3] & 3}:
		return true
	}
	return false
}

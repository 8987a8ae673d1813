package linkbench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of ETHTOOL (include/uapi/linux/ethtool.h).
const (
	ethtoolGetSettings = 0x01
	ethtoolGetStrings  = 0x1b
	ethtoolCountSet    = 0x37
	ethtoolSetFeatures = 0x3b

	stringsOfFeatures = 4  // ETH_SS_FEATURES
	stringBytes       = 32 // ETH_GSTRING_LEN

	// unknownSpeed is how a device says that it has none.
	unknownSpeed = 1<<32 - 1
	// maxFeatures bounds what is believed of the kernel's number of features; there are 64.
	maxFeatures = 1024
)

// ethtool sends a command, which data begins with, to a device of the namespace of the calling
// thread.
func ethtool(device string, data []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("ethtool: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&data[0])}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return fmt.Errorf("ethtool, command %#x for %s: %w", word(data, 0), device, errno)
	}
	return nil
}

// word and setWord read and write a __u32 of a request.
func word(data []byte, at int) uint32       { return binary.NativeEndian.Uint32(data[at:]) }
func setWord(data []byte, at int, v uint32) { binary.NativeEndian.PutUint32(data[at:], v) }

// claimedSpeed is what a device of the calling thread's namespace says its speed is, in Mbit/s. It
// is an error if it says nothing.
func claimedSpeed(device string) (int, error) {
	data := make([]byte, 44) // struct ethtool_cmd
	setWord(data, 0, ethtoolGetSettings)
	if err := ethtool(device, data); err != nil {
		return 0, err
	}
	low, high := binary.NativeEndian.Uint16(data[12:]), binary.NativeEndian.Uint16(data[28:])
	speed := uint32(high)<<16 | uint32(low)
	if speed == unknownSpeed || speed == 0 {
		return 0, fmt.Errorf("%s does not report its speed", device)
	}
	return int(speed), nil
}

// cardLacks are the features in which the stand-in for a card differs from a veth: the kernel cuts
// superpackets before the cable, and joins packets behind it. Checksums stay offloaded, which every
// card does.
var cardLacks = []string{
	"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation",
	"tx-generic-segmentation", "tx-udp-segmentation",
}

const cardHas = "rx-gro"

// likeCard gives a veth the features of a plain card. It acts in the calling thread's namespace.
func likeCard(device string) error {
	names, err := features(device)
	if err != nil {
		return err
	}
	blocks := (len(names) + 31) / 32
	data := make([]byte, 8+8*blocks) // struct ethtool_sfeatures: valid and requested bits
	setWord(data, 0, ethtoolSetFeatures)
	setWord(data, 4, uint32(blocks))
	for n, name := range names {
		valid, bit := 8+8*(n/32), uint32(1)<<(n%32)
		if name == cardHas {
			setWord(data, valid+4, word(data, valid+4)|bit)
		}
		if name == cardHas || slices.Contains(cardLacks, name) {
			setWord(data, valid, word(data, valid)|bit)
		}
	}
	return ethtool(device, data)
}

// features lists the names of all features that this kernel knows, by number.
func features(device string) ([]string, error) {
	count := make([]byte, 20) // struct ethtool_sset_info with one value
	setWord(count, 0, ethtoolCountSet)
	setWord(count, 8, 1<<stringsOfFeatures)
	if err := ethtool(device, count); err != nil {
		return nil, err
	}
	n := int(min(word(count, 16), maxFeatures))
	data := make([]byte, 12+stringBytes*n) // struct ethtool_gstrings
	setWord(data, 0, ethtoolGetStrings)
	setWord(data, 4, stringsOfFeatures)
	setWord(data, 8, uint32(n))
	if err := ethtool(device, data); err != nil {
		return nil, err
	}
	names := make([]string, n)
	for i := range names {
		name, _, _ := bytes.Cut(data[12+stringBytes*i:12+stringBytes*(i+1)], []byte{0})
		names[i] = string(name)
	}
	return names, nil
}

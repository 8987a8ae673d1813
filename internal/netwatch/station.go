package netwatch

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/rtnl"
)

// Station is a MAC address that a bridge knows at one of its ports.
type Station struct {
	MAC  [6]byte
	VLAN uint16 // as frames of the port that is followed have it; 0: untagged
	// Fixed: an address of the host itself, or an entry that somebody made to stay.
	Fixed bool
	Idle  time.Duration // since the bridge last heard it
}

// Departure says why a station is gone.
type Departure uint8

// The reasons.
const (
	Moved   Departure = iota // the bridge has it at the followed port now
	Aged                     // the bridge has not heard it for its ageing time
	Removed                  // its port is gone or down, or somebody deleted the entry
)

// fdbEntry is a message about an entry in the forwarding database of a bridge.
type fdbEntry struct {
	bridge int // index
	port   int // index; that of the bridge itself for its own addresses
	mac    [6]byte
	vlan   uint16 // as the bridge counts; 0: none
	fixed  bool
	idle   time.Duration
}

// Attribute numbers and flags: linux/neighbour.h.
const (
	sizeofNdmsg = 12
	attrMAC     = 2 // NDA_LLADDR
	attrTimes   = 3 // NDA_CACHEINFO
	attrVLAN    = 5 // NDA_VLAN
	attrMaster  = 9 // NDA_MASTER
	sizeofTimes = 16
	offUpdated  = 8                     // in struct nda_cacheinfo
	stickyFlag  = 0x40                  // NTF_STICKY: the bridge does not move it either
	clockTick   = 10 * time.Millisecond // of the kernel's interfaces: USER_HZ is 100
	fixedState  = unix.NUD_PERMANENT | unix.NUD_NOARP
)

// parseFDB reads the body of a message about a neighbour (struct ndmsg and attributes). ok is false
// for anything but the unicast entry of a bridge: br_fdb.c, fdb_fill_info.
func parseFDB(b []byte) (e fdbEntry, ok bool) {
	if len(b) < sizeofNdmsg || b[0] != unix.AF_BRIDGE || b[10]&unix.NTF_SELF != 0 {
		return e, false
	}
	e.port = int(int32(binary.NativeEndian.Uint32(b[4:])))
	e.fixed = binary.NativeEndian.Uint16(b[8:])&fixedState != 0 || b[10]&stickyFlag != 0
	for typ, value := range rtnl.Attributes(b[sizeofNdmsg:]) {
		switch {
		case typ == attrMAC && len(value) == len(e.mac):
			e.mac, ok = [6]byte(value), value[0]&1 == 0
		case typ == attrVLAN && len(value) == 2:
			e.vlan = binary.NativeEndian.Uint16(value)
		case typ == attrMaster && len(value) == 4:
			e.bridge = int(binary.NativeEndian.Uint32(value))
		case typ == attrTimes && len(value) >= sizeofTimes:
			e.idle = time.Duration(binary.NativeEndian.Uint32(value[offUpdated:])) * clockTick
		}
	}
	return e, ok && e.bridge != 0
}

// portVLANs says how a bridge translates between its VLANs and the frames of one port.
type portVLANs struct {
	filtering bool   // otherwise the bridge does not look at tags
	untagged  uint16 // VLAN of untagged frames in both directions; 0: none
	member    [64]uint64
}

func (v *portVLANs) has(vid uint16) bool { return vid < 4096 && v.member[vid>>6]&(1<<(vid&63)) != 0 }
func (v *portVLANs) add(vid uint16)      { v.member[vid>>6&63] |= 1 << (vid & 63) }

// outside translates a VLAN of the bridge to what frames have at the port; ok is false if the port
// does not carry it.
func (v *portVLANs) outside(vid uint16) (uint16, bool) {
	switch {
	case !v.filtering:
		return 0, vid == 0
	case vid == 0: // the bridge's own addresses are also without a VLAN
		return 0, v.untagged != 0
	case vid == v.untagged:
		return 0, true
	}
	return vid, v.has(vid)
}

// inside is the inverse of outside.
func (v *portVLANs) inside(vid uint16) uint16 {
	switch {
	case !v.filtering:
		return 0
	case vid == 0:
		return v.untagged
	}
	return vid
}

package l2

import (
	"encoding/binary"
	"slices"

	"tund/internal/drop"
)

// vlanSet is a set of VLANs, in which 0 stands for untagged frames.
type vlanSet [64]uint64

func (s *vlanSet) add(vid uint16)      { s[vid>>6&63] |= 1 << (vid & 63) }
func (s *vlanSet) remove(vid uint16)   { s[vid>>6&63] &^= 1 << (vid & 63) }
func (s *vlanSet) has(vid uint16) bool { return s[vid>>6&63]&(1<<(vid&63)) != 0 }

// bitmap returns the set as bytes, bit n of which stands for VLAN n, without zeros at the end. It
// has at least one byte.
func (s *vlanSet) bitmap() []byte {
	b := make([]byte, 0, maxVLANsLen)
	for _, word := range s {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	n := len(b)
	for n > 1 && b[n-1] == 0 {
		n--
	}
	return slices.Clone(b[:n])
}

// isBitmap reports whether b is the bitmap of the set.
func (s *vlanSet) isBitmap(b []byte) bool {
	for _, word := range s {
		want := uint64(0)
		for i := range min(len(b), 8) {
			want |= uint64(b[i]) << (8 * i)
		}
		if b = b[min(len(b), 8):]; word != want {
			return false
		}
	}
	return len(b) == 0
}

// setBitmap sets the VLANs of a bitmap of at most maxVLANsLen bytes.
func (s *vlanSet) setBitmap(b []byte) {
	for i, octet := range b {
		s[i/8] |= uint64(octet) << (i % 8 * 8)
	}
}

// membership says which VLANs a port carries and how.
//
// Inside the switch a frame belongs to a VLAN from 1 to 4094, or to 0, the untagged LAN. The TAP
// carries all of them, tagged as on the bridge. Between the two daemons, a peer carries:
//
//	vlans  pvid   untagged frames are   tagged frames
//	-      -      the untagged LAN      refused
//	-      10     VLAN 10 (access)      refused
//	10,20  -      refused               10 and 20
//	0,10   -      the untagged LAN      10
//	20     10     VLAN 10 (native)      20
//
// A priority tag (VLAN 0) counts as untagged. Tags are inserted and removed one at a time and only
// by explicit instruction. A frame with two tags has been refused before that (unless QinQ is
// enabled), so an inner tag never becomes the outer one.
type membership struct {
	all    bool // the port is the TAP and carries every VLAN
	qinq   bool // frames with several tags are accepted, and belong to the VLAN of the outer tag
	pvid   uint16
	tagged vlanSet // if it contains 0, untagged frames belong to the untagged LAN
}

func newMembership(vlans []uint16, pvid uint16, qinq bool) membership {
	m := membership{pvid: pvid & vidMask, qinq: qinq}
	for _, v := range vlans {
		if v <= maxVID {
			m.tagged.add(v)
		}
	}
	if len(vlans) == 0 && pvid == 0 {
		m.tagged.add(0)
	}
	return m
}

// ingress returns the VLAN of a frame received at the port, or the reason why it is refused.
func (m *membership) ingress(h *Header) (uint16, drop.Reason) {
	if h.Tags == 0 {
		return m.untagged()
	}
	if h.nested() {
		// A single service tag is half of a double tag, and bridges treat it as untagged. Only
		// behind an LLC/SNAP header can the EtherType still be a tag, and such a frame hides
		// something.
		if !m.qinq || isTPID(h.EtherType) {
			return 0, drop.DoubleTag
		}
	}
	vid := h.VID()
	switch {
	case vid == 0:
		return m.untagged()
	case vid > maxVID, !m.all && !m.tagged.has(vid):
		return 0, drop.VLANRefused
	}
	return vid, drop.None
}

func (m *membership) untagged() (uint16, drop.Reason) {
	if m.all || m.pvid != 0 || m.tagged.has(0) {
		return m.pvid, drop.None
	}
	return 0, drop.VLANRefused
}

// native returns the VLAN of the port's untagged frames, or noVLAN if it refuses them.
func (m *membership) native() uint16 {
	if vid, reason := m.untagged(); reason == drop.None {
		return vid
	}
	return noVLAN
}

// egress reports whether the port carries frames of VLAN vid, and whether they are tagged there.
func (m *membership) egress(vid uint16) (tagged, ok bool) {
	switch {
	case m.all:
		return vid != 0, true
	case vid == 0:
		return false, m.pvid == 0 && m.tagged.has(0)
	case vid == m.pvid:
		return false, true
	}
	return true, m.tagged.has(vid)
}

// onWire returns the VLANs that the port carries, as numbered on the wire to its peer.
func (m *membership) onWire() vlanSet {
	set := m.tagged
	set.remove(m.pvid)
	if m.native() != noVLAN {
		set.add(0)
	}
	return set
}

// wire returns the VLAN number that stands for vid on the wire to the peer of the port (0:
// untagged).
func (m *membership) wire(vid uint16) (uint16, bool) {
	tagged, ok := m.egress(vid)
	if !tagged {
		vid = 0
	}
	return vid, ok
}

// fromWire is the inverse of wire.
func (m *membership) fromWire(vid uint16) (uint16, bool) {
	h := Header{}
	if vid != 0 {
		h = Header{Tags: 1, TPID: typeVLAN, TCI: vid}
	}
	v, reason := m.ingress(&h)
	return v, reason == drop.None
}

// TagOp is a change to the outer tag of a frame.
type TagOp uint8

// The tag operations.
const (
	TagKeep    TagOp = iota // send the frame unchanged
	TagInsert               // insert a tag with VID before the EtherType
	TagStrip                // remove the outer tag
	TagReplace              // write VID into the existing priority tag
)

// Rewrite is the change to the tag of a frame that a receiving port requires before the frame is
// sent to it. The zero Rewrite changes nothing.
type Rewrite struct {
	Op  TagOp
	VID uint16 // for TagInsert and TagReplace
}

// rewrite returns the change to a frame of VLAN vid that arrived with header h, so that it leaves
// through a port tagged or untagged as required.
func rewrite(h *Header, vid uint16, tagged bool) Rewrite {
	switch {
	case tagged && h.Tags == 0:
		return Rewrite{TagInsert, vid}
	case tagged && h.VID() != vid:
		return Rewrite{TagReplace, vid}
	case !tagged && h.Tags > 0 && h.VID() != 0:
		return Rewrite{Op: TagStrip}
	}
	return Rewrite{}
}

// Grow returns by how many bytes the rewrite lengthens a frame: 4, 0 or -4.
func (r Rewrite) Grow() int {
	switch r.Op {
	case TagInsert:
		return tagLen
	case TagStrip:
		return -tagLen
	}
	return 0
}

// Apply performs the rewrite on the frame that starts at buf[off] and returns its new start offset.
// TagInsert needs four free bytes before off. Only the 12 bytes of MAC addresses move: the payload,
// and in a superpacket all segment data behind the headers, stay in place, and offsets relative to
// the frame (csum_start, hdr_len) shift by Grow. If several receivers need different forms of a
// frame, each must be rewritten from the original form; saving its first 18 bytes is enough to
// restore it.
func (r Rewrite) Apply(buf []byte, off int) int {
	switch r.Op {
	case TagInsert:
		copy(buf[off-tagLen:], buf[off:off+12])
		off -= tagLen
		binary.BigEndian.PutUint16(buf[off+12:], typeVLAN)
		binary.BigEndian.PutUint16(buf[off+14:], r.VID)
	case TagStrip:
		copy(buf[off+tagLen:off+tagLen+12], buf[off:off+12])
		off += tagLen
	case TagReplace:
		tci := binary.BigEndian.Uint16(buf[off+14:])
		binary.BigEndian.PutUint16(buf[off+14:], tci&^vidMask|r.VID)
	}
	return off
}

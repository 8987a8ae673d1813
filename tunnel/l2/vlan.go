package l2

import (
	"encoding/binary"

	"tund/internal/drop"
)

// vlanSet is a set of VLANs, 0 standing for untagged frames.
type vlanSet [64]uint64

func (s *vlanSet) add(vid uint16)      { s[vid>>6&63] |= 1 << (vid & 63) }
func (s *vlanSet) has(vid uint16) bool { return s[vid>>6&63]&(1<<(vid&63)) != 0 }

// membership says which VLANs a port carries and how.
//
// Inside the switch a frame belongs to a VLAN 1-4094, or to 0, the untagged LAN. The TAP carries all of them,
// tagged as the bridge has them. A peer carries, on the wire between the two daemons:
//
//	vlans  pvid   untagged frames are   tagged frames
//	-      -      the untagged LAN      refused
//	-      10     VLAN 10 (access)      refused
//	10,20  -      refused               10 and 20
//	0,10   -      the untagged LAN      10
//	20     10     VLAN 10 (native)      20
//
// A priority tag (VLAN 0) counts as no tag. Tags are put in and taken out by explicit instruction, one tag,
// and a frame with two is refused before (unless allowed), so what hides behind a tag never surfaces as one.
type membership struct {
	all    bool // the TAP
	qinq   bool // frames with several tags are let through, filed under the outer one
	pvid   uint16
	tagged vlanSet // 0 in it: untagged frames belong to the untagged LAN
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

// ingress returns the VLAN to which a frame coming in at the port belongs.
func (m *membership) ingress(h *Header) (uint16, drop.Reason) {
	if h.Tags == 0 {
		return m.untagged()
	}
	if h.nested() {
		// A lone service tag is half of a double one, and bridges take it for untagged. A tag
		// behind LLC/SNAP, the only place where it is left as EtherType, hides something.
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

// native returns the VLAN of the port's untagged frames; noVLAN when it has none.
func (m *membership) native() uint16 {
	if vid, reason := m.untagged(); reason == drop.None {
		return vid
	}
	return noVLAN
}

// egress reports whether the port carries frames of VLAN vid, and whether with a tag.
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

// wire returns the VLAN number that stands for vid between us and the port's peer (0: untagged).
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

// The changes.
const (
	TagKeep    TagOp = iota // the frame goes as it is
	TagInsert               // put a tag with VID in front of the EtherType
	TagStrip                // take the outer tag out
	TagReplace              // write VID into the tag that is there, a priority tag
)

// Rewrite is what a receiver's port asks for before the frame is sent to it. The zero Rewrite changes nothing.
type Rewrite struct {
	Op  TagOp
	VID uint16 // for TagInsert and TagReplace
}

// rewrite returns how a frame that came with header h, of VLAN vid, leaves through a port that wants it tagged
// or not.
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

// Grow returns by how many bytes the rewrite makes a frame longer (4, 0 or -4).
func (r Rewrite) Grow() int {
	switch r.Op {
	case TagInsert:
		return tagLen
	case TagStrip:
		return -tagLen
	}
	return 0
}

// Apply performs the rewrite on the frame that starts at buf[off] and returns where the frame starts now.
// TagInsert needs four free bytes before off. Only the 12 bytes of addresses move, so the payload, and for a
// superpacket every segment's bytes behind the headers, stay in place; offsets into the frame (csum_start,
// hdr_len) shift by Grow. A frame that several receivers get in different forms is rewritten from its first
// form for each: keep its first 18 bytes.
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

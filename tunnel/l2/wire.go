package l2

import (
	"encoding/binary"

	"tund/internal/drop"
)

// The inner payloads of package l2. Their first nibble distinguishes them from IP packets.
//
// Ethernet frame, either whole or one of two parts:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+-------+-------------+-+-------------------------------+
//	|   1   | hops  |  reserved 0 |F|         frame length          |
//	+-------+-------+-------------+-+-+-----------------------------+
//	|              id               |S|            cut              |  only when F is set
//	+-------------------------------+-+-----------------------------+
//	|  the frame, or one part of it, then padding                   |
//
//	hops          number of hubs passed so far; 0 at the site where the frame entered
//	F             one part of a frame that was cut in two
//	frame length  bytes of the whole frame, from destination MAC to end of payload (no FCS)
//	id            number of the cut frame, counted up by the sender
//	S             0: bytes [0, cut) of the frame; 1: bytes [cut, frame length)
//	cut           0 < cut < frame length
//
// A receiver ignores anything after the announced bytes: it is transport padding, or padding that
// makes the two parts equally long. Reserved bits are sent as 0, and a payload in which one is set
// is dropped, so that they can be given a meaning that older receivers must not overlook.
//
// Control message:
//
//	+-------+-------+---------------+-------------------------------+
//	|   2   | format|     type      |          body length          |
//	+-------+-------+---------------+-------------------------------+
//	|  body …
//
// See control.go for the types.
const (
	FrameHeaderLen    = 4 // before a whole frame
	FragmentHeaderLen = 8 // before a part of one
	// MaxHops is the number of hubs that a frame may pass; more than three in a row are rare.
	MaxHops = 8

	kindFrame   = 1
	kindControl = 2

	flagFragment = 1 << 0
	secondPart   = 1 << 15
	maxCut       = 1<<15 - 1
)

// Kind is the type of an inner payload. The zero Kind is KindOther.
type Kind uint8

// The kinds of payload, by their first nibble.
const (
	KindOther   Kind = 0 // not a payload of this package: IP, an empty keepalive, or unknown
	KindFrame   Kind = kindFrame
	KindControl Kind = kindControl
)

// PayloadKind returns the kind of an inner payload, determined by its first nibble alone.
func PayloadKind(payload []byte) Kind {
	if len(payload) == 0 {
		return KindOther
	}
	if k := payload[0] >> 4; k == kindFrame || k == kindControl {
		return Kind(k)
	}
	return KindOther
}

// FrameHeader is the parsed header of a payload of KindFrame.
type FrameHeader struct {
	Hops     uint8
	Fragment bool
	Length   int    // bytes of the whole frame
	ID       uint16 // this and the following only if Fragment is set
	Cut      int
	Second   bool
}

// PutFrameHeader writes the 4-byte header of a whole frame of length bytes into b. length must be
// at most 65,535 and hops at most MaxHops.
func PutFrameHeader(b []byte, hops uint8, length int) {
	_ = b[3]
	b[0] = kindFrame<<4 | hops&0x0f
	b[1] = 0
	binary.BigEndian.PutUint16(b[2:], uint16(length))
}

// PutFragmentHeader writes the 8-byte header of one part of a frame of length bytes, cut at cut,
// into b. The bytes of the part follow the header: [0, cut) for the first, [cut, length) for the
// second. The limits of PutFrameHeader apply, and 0 < cut < length.
func PutFragmentHeader(b []byte, hops uint8, length int, id uint16, cut int, second bool) {
	_ = b[7]
	PutFrameHeader(b, hops, length)
	b[1] = flagFragment
	binary.BigEndian.PutUint16(b[4:], id)
	w := uint16(cut)
	if second {
		w |= secondPart
	}
	binary.BigEndian.PutUint16(b[6:], w)
}

// ParseFrame parses the header of a payload of KindFrame and returns the frame, or the part of one,
// that follows it: a slice of payload without padding. The reason is drop.None, drop.BadInnerPacket
// (reserved bits set, or fewer bytes than announced), drop.ReassemblyBad (a part whose fields
// contradict each other) or drop.HopLimit.
func ParseFrame(payload []byte) (h FrameHeader, body []byte, reason drop.Reason) {
	if len(payload) < FrameHeaderLen || payload[0]>>4 != kindFrame || payload[1]&^flagFragment != 0 {
		return h, nil, drop.BadInnerPacket
	}
	h.Hops = payload[0] & 0x0f
	if h.Hops > MaxHops {
		return h, nil, drop.HopLimit
	}
	h.Length = int(binary.BigEndian.Uint16(payload[2:]))
	if payload[1] == 0 {
		if h.Length > len(payload)-FrameHeaderLen {
			return h, nil, drop.BadInnerPacket
		}
		return h, payload[FrameHeaderLen : FrameHeaderLen+h.Length], drop.None
	}
	if len(payload) < FragmentHeaderLen {
		return h, nil, drop.BadInnerPacket
	}
	w := binary.BigEndian.Uint16(payload[6:])
	h.Fragment, h.ID, h.Second, h.Cut = true, binary.BigEndian.Uint16(payload[4:]), w&secondPart != 0, int(w&maxCut)
	n := h.PartLen()
	if h.Cut == 0 || n <= 0 {
		return h, nil, drop.ReassemblyBad
	}
	if n > len(payload)-FragmentHeaderLen {
		return h, nil, drop.BadInnerPacket
	}
	return h, payload[FragmentHeaderLen : FragmentHeaderLen+n], drop.None
}

// PartLen returns the number of frame bytes that this payload carries.
func (h *FrameHeader) PartLen() int {
	switch {
	case !h.Fragment:
		return h.Length
	case h.Second:
		return h.Length - h.Cut
	case h.Cut >= h.Length:
		return 0
	}
	return h.Cut
}

package l2

import (
	"encoding/binary"
	"fmt"
)

// MAC is an Ethernet address in the low 48 bits, first octet highest. It is a word rather than six
// bytes because the switch hashes and compares it once or twice per superpacket.
type MAC uint64

// Broadcast is ff:ff:ff:ff:ff:ff.
const Broadcast MAC = 0xffff_ffff_ffff

const groupBit = 1 << 40 // lowest bit of the first octet: multicast or broadcast

// MACFromBytes reads the first six bytes of b, which must hold that many.
func MACFromBytes(b []byte) MAC {
	_ = b[5]
	return MAC(b[0])<<40 | MAC(b[1])<<32 | MAC(binary.BigEndian.Uint32(b[2:6]))
}

// Put writes the address into the first six bytes of b.
func (m MAC) Put(b []byte) {
	_ = b[5]
	binary.BigEndian.PutUint16(b, uint16(m>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(m))
}

// Group reports whether m is a multicast address or the broadcast address.
func (m MAC) Group() bool { return m&groupBit != 0 }

// String returns the usual form, aa:bb:cc:dd:ee:ff.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x",
		byte(m>>40), byte(m>>32), byte(m>>24), byte(m>>16), byte(m>>8), byte(m))
}

// MarshalText implements encoding.TextMarshaler. It returns the form of String and never an error.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// EtherTypes that the switch examines (IEEE 802 registry), and constants of the Ethernet header.
const (
	typeIPv4      = 0x0800
	typeARP       = 0x0806
	typeRARP      = 0x8035
	typeVLAN      = 0x8100 // customer tag, 802.1Q
	typeIPv6      = 0x86dd
	typeMACCtl    = 0x8808 // PAUSE and priority flow control
	typeSlow      = 0x8809 // LACP and OAM
	typeService   = 0x88a8 // service tag, 802.1ad
	typeProbe     = 0x88b5 // local experimental 1: our loop probe
	typeLLDP      = 0x88cc
	typeOldQinQ1  = 0x9100 // service tags from before 802.1ad, still honoured by hardware
	typeOldQinQ2  = 0x9200
	typeOldQinQ3  = 0x9300
	minEtherType  = 0x0600 // smaller values are an 802.3 length
	vidMask       = 0x0fff
	maxVID        = 4094 // 4095 is reserved, 802.1Q table 9-2
	noVLAN        = 4095
	headerLen     = 14
	tagLen        = 4
	maxParsedTags = 4 // enough to see what a stack of tags hides; a frame with more does not parse
)

// Header is the parsed Ethernet header: addresses, outer tag, and where the payload starts.
type Header struct {
	Dst, Src MAC
	Tags     int    // number of tags of any kind; a tag inside an LLC/SNAP header counts as two
	TPID     uint16 // of the outer tag; 0 if there is none
	TCI      uint16 // of the outer tag: priority 3 bits, DEI 1 bit, VLAN 12 bits
	// Type of the payload, after all tags and an LLC/SNAP header; a value below 0x0600 is a length
	// or meaningless.
	EtherType uint16
	Payload   int // offset of the payload in the frame
}

// VID returns the VLAN of the outer tag; 0 for an untagged or priority-tagged frame.
func (h *Header) VID() uint16 { return h.TCI & vidMask }

// nested reports whether the frame has an inner VLAN, which belongs to a customer, inside the VLAN
// that the switch assigns it to. The same addresses may exist in many inner VLANs, and what is
// asked or reported in one says nothing about another.
func (h *Header) nested() bool { return h.Tags > 1 || h.Tags == 1 && h.TPID != typeVLAN }

// Parse parses the Ethernet header of frame and its tags. ok is false for a frame shorter than its
// own headers, and for a stack of more than four tags. Parse also looks behind LLC/SNAP (RFC 1042),
// because hosts accept IP inside it and a guard that does not could be bypassed (CVE-2021-27853).
// An 802.3 length is neither trusted nor verified: bridges forward frames that contradict theirs,
// and hosts differ in how they interpret it.
//
// Parse retains nothing of frame and does not allocate.
func Parse(frame []byte) (h Header, ok bool) {
	if len(frame) < headerLen {
		return h, false
	}
	h.Dst = MAC(binary.BigEndian.Uint64(frame) >> 16)
	h.Src = MAC(binary.BigEndian.Uint64(frame[6:]) >> 16)
	h.EtherType = binary.BigEndian.Uint16(frame[12:])
	h.Payload = headerLen
	if isTPID(h.EtherType) && !h.parseTags(frame) {
		return h, false
	}
	if h.EtherType < minEtherType {
		h.parseLLC(frame)
	}
	return h, true
}

func (h *Header) parseTags(frame []byte) bool {
	for isTPID(h.EtherType) {
		if h.Tags == maxParsedTags || len(frame) < h.Payload+tagLen {
			return false
		}
		if h.Tags == 0 {
			h.TPID, h.TCI = h.EtherType, binary.BigEndian.Uint16(frame[h.Payload:])
		}
		h.Tags++
		h.EtherType = binary.BigEndian.Uint16(frame[h.Payload+2:])
		h.Payload += tagLen
	}
	return true
}

// parseLLC takes the EtherType from a SNAP header: aa aa 03, an OUI that means "an EtherType
// follows" (RFC 1042: 00 00 00, 802.1H: 00 00 f8), and the type.
func (h *Header) parseLLC(frame []byte) {
	rest := frame[h.Payload:]
	if len(rest) < 8 || rest[0] != 0xaa || rest[1] != 0xaa || rest[2] != 0x03 || rest[3] != 0 || rest[4] != 0 ||
		rest[5] != 0 && rest[5] != 0xf8 {
		return
	}
	h.EtherType = binary.BigEndian.Uint16(rest[6:])
	h.Payload += 8
	if isTPID(h.EtherType) {
		h.Tags += 2 // no legitimate sender puts a tag there: it is refused as a double tag
	}
}

func isTPID(t uint16) bool {
	switch t {
	case typeVLAN, typeService, typeOldQinQ1, typeOldQinQ2, typeOldQinQ3:
		return true
	}
	return false
}

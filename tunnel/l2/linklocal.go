package l2

import (
	"bytes"

	"tund/internal/drop"
)

// LinkProtocols is a set of protocols spoken between neighbours on one link, which a bridge does
// not forward unless configured to.
type LinkProtocols uint8

// The protocols that can be forwarded. Flow control is not among them: it slows down whoever
// receives it, and never concerns another link.
const (
	LinkLLDP  LinkProtocols = 1 << iota // IEEE 802.1AB
	LinkEAPOL                           // IEEE 802.1X, and MACsec's key agreement
	LinkLACP                            // IEEE 802.1AX, with its marker protocol
	LinkCDP                             // Cisco
	LinkPTP                             // IEEE 1588 annex E: the delay to a neighbour
	LinkMVRP                            // IEEE 802.1Q: VLAN registration
)

// EtherTypes of these protocols that the rest of the switch does not use (IEEE 802 registry).
const (
	typeEAPOL = 0x888e
	typeMVRP  = 0x88f5
	typePTP   = 0x88f7
)

// Slow protocols, IEEE 802.3 table 57A-3.
const (
	slowLACP   = 1
	slowMarker = 2
)

// cdpHeader is an LLC and SNAP header with Cisco's OUI and the protocol number of CDP.
var cdpHeader = []byte{0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0}

// linkProtocol returns the protocol that the frame with header h belongs to; 0 if it is none of
// them.
func linkProtocol(frame []byte, h *Header) LinkProtocols {
	b := frame[h.Payload:]
	switch h.EtherType {
	case typeLLDP:
		return LinkLLDP
	case typeEAPOL:
		return LinkEAPOL
	case typePTP:
		return LinkPTP
	case typeMVRP:
		return LinkMVRP
	case typeSlow:
		if len(b) > 0 && (b[0] == slowLACP || b[0] == slowMarker) {
			return LinkLACP
		}
	}
	if h.EtherType < minEtherType && h.Dst == macCiscoLink && bytes.HasPrefix(b, cdpHeader) {
		return LinkCDP
	}
	return 0
}

// reserved is the function of that name, but lets the protocols in Config.Transparent pass.
func (f *frameInfo) reserved() drop.Reason {
	reason := reserved(&f.h)
	if reason != drop.None && f.view.cfg.Transparent&linkProtocol(f.p.Frame, &f.h) != 0 {
		return drop.None
	}
	return reason
}

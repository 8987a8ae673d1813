package l2

import (
	"encoding/binary"
	"time"

	"tund/internal/drop"
)

// BPDUPolicy says how spanning tree frames are handled.
type BPDUPolicy uint8

// The policies.
const (
	BPDUDrop    BPDUPolicy = iota // do not forward them: each site has its own spanning tree
	BPDUForward                   // forward them: one spanning tree spans all sites
	BPDUGuard                     // as BPDUDrop, and block a peer that sends one for 300 s
)

const bpduGuardTime = 300 * time.Second // the usual errdisable recovery time of switches

// Destinations that a bridge does not forward.
const (
	// IEEE 802.1Q §8.6.3: 00-0f never forwarded; 20-2f GMRP, GVRP and the like.
	reservedPrefix = 0x0180c2_000000
	reservedMask   = 0xffffff_ffffd0 // 00-0f and 20-2f
	macBPDU        = 0x0180c2_000000
	macBridgeBPDU  = 0x0180c2_000008 // provider bridges
	macCiscoPVST   = 0x01000c_cccccd // per-VLAN spanning tree
	macCiscoLink   = 0x01000c_cccccc // CDP, VTP, DTP, PAgP, UDLD: link-local in all but name
)

// reserved returns why a frame must not be forwarded at all: drop.BPDU for spanning tree,
// drop.LinkLocalFrame for other link-local protocols, drop.None for ordinary frames. The caller
// applies the BPDU policy.
func reserved(h *Header) drop.Reason {
	switch h.Dst {
	case macBPDU, macBridgeBPDU, macCiscoPVST:
		return drop.BPDU
	case macCiscoLink:
		return drop.LinkLocalFrame
	}
	if h.Dst&reservedMask == reservedPrefix {
		return drop.LinkLocalFrame
	}
	switch h.EtherType {
	case typeMACCtl, typeSlow, typeLLDP:
		return drop.LinkLocalFrame
	}
	return drop.None
}

// ICMPv6 types that the switch knows: RFC 4861, RFC 2710, RFC 3810, RFC 4286.
const (
	icmp6MLDQuery        = 130
	icmp6MLDReport       = 131
	icmp6MLDDone         = 132
	icmp6RouterSolicit   = 133
	icmp6RouterAdvert    = 134
	icmp6NeighborSolicit = 135
	icmp6NeighborAdvert  = 136
	icmp6Redirect        = 137
	icmp6MLDv2Report     = 143
	icmp6MRDAdvert       = 151
)

// UDP ports of DHCP: RFC 2131 §4.1, RFC 8415 §7.2.
const (
	portDHCPServer  = 67
	portDHCPClient  = 68
	portDHCP6Client = 546

	bootReply = 2 // RFC 2131 §2, op
)

// guard refuses what would let a peer configure our hosts: DHCP server messages unless trustDHCP is
// set, router advertisements and redirects unless trustRA is set. A packet that may hide such a
// message (a first fragment without the complete chain of headers, or fragmented neighbour
// discovery) is refused as well: RFC 7113, RFC 6980.
func guard(frame []byte, h *Header, trustDHCP, trustRA bool) drop.Reason {
	switch h.EtherType {
	case typeIPv4:
		if !trustDHCP {
			return guard4(frame[h.Payload:])
		}
	case typeIPv6:
		if !trustDHCP || !trustRA {
			return guard6(frame[h.Payload:], trustDHCP, trustRA)
		}
	}
	return drop.None
}

func guard4(b []byte) drop.Reason {
	s := segment4(b)
	if !s.complete || s.proto != protoUDP || s.later {
		// A later fragment alone is useless, and hosts drop packets with malformed headers.
		return drop.None
	}
	udp := b[s.off:s.end]
	if len(udp) < 8 {
		return drop.GuardDHCP // a legitimate first fragment has at least 8 bytes
	}
	src, dst := binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])
	if dst == portDHCPClient || src == portDHCPServer && dst == portDHCPServer && (len(udp) < 9 || udp[8] == bootReply) {
		return drop.GuardDHCP
	}
	return drop.None
}

func guard6(b []byte, trustDHCP, trustRA bool) drop.Reason {
	s := segment6(b)
	if s.later {
		return drop.None
	}
	if !s.complete {
		return drop.GuardRA
	}
	rest := b[s.off:s.end]
	switch s.proto {
	case protoICMPv6:
		if trustRA {
			return drop.None
		}
		if len(rest) < 1 {
			return drop.GuardRA
		}
		t := rest[0]
		if t == icmp6RouterAdvert || t == icmp6Redirect || s.fragment && t >= icmp6RouterSolicit && t <= icmp6Redirect {
			return drop.GuardRA
		}
	case protoUDP:
		if trustDHCP {
			return drop.None
		}
		if len(rest) < 4 || binary.BigEndian.Uint16(rest[2:]) == portDHCP6Client {
			return drop.GuardDHCP
		}
	}
	return drop.None
}

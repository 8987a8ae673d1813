package l2

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
)

// Control messages have the header described in wire.go, with format 0, followed by a body that
// depends on the type. A body may be longer than described here: later versions append fields, and
// a receiver reads the fields it knows. Messages of unknown type are ignored.
//
// Hello (type 1) says who the sender is and what it carries. It is sent when a session comes up,
// repeated until the peer's hello arrives, and sent in answer to a hello that requests one. No
// frame is sent to a peer before its hello has said that it carries Ethernet.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+-----------+-+-+-+-----------------------------+
//	|    version    | reserved|L|H|A|E|             MTU             |
//	+---------------+---------+-+-+-+-+-----------------------------+
//	|                          node (8 bytes)                       |
//	+---------------------------------------------------------------+
//	|                      probe secret (16 bytes)                  |
//	+---------------------------------------------------------------+
//	|                      clock, seconds (4 bytes)                 |
//	+-------------------------------+-------------------------------+
//	|             PVID              |                               |
//	+-------------------------------+                               |
//	|                      probe key (16 bytes)                     |
//	|                               +-------------------------------+
//	|                               |        length of VLANs        |
//	+-------------------------------+-------------------------------+
//	|  VLANs …
//
//	version  highest version the sender speaks, 1; both sides use the lower of the two
//	E        the sender carries Ethernet with the receiver
//	A        a hello and announcements are requested in answer
//	H        the sender is a hub
//	L        the sender leaves: forget at once what was learned behind it (E is then not set)
//	MTU      payload bytes of the longest frame, without Ethernet header and tags
//	node     identifies the sender, the same at each start; never 0
//	secret   authenticates the sender's loop probes
//	clock    the sender's clock, in which its loop probes are timed
//	PVID     the sender's VLAN for untagged frames between the two; 0: the untagged LAN,
//	         4095: refused. A sender that omits it does not name the VLAN in its loop probes
//	key      of the receiver's tag in the sender's loop probes, disclosed to nobody else. A sender
//	         that omits it makes no tags and does not know messages of types 4 and 5
//	VLANs    that the sender carries with the receiver: bit n (from the lowest of the first byte)
//	         stands for VLAN n, bit 0 for untagged frames. At most 512 bytes; zeros at the end are
//	         left out. Length 0, or no such field: the sender does not say
//
// Loop probe (type 2): the body is a probe, drawn in probe.go, and one byte that counts hops.
//
// Announcement (type 3): a list of the MACs that live on the sender's side, each
//
//	+-------------------------------+-------------------------------+
//	|       VLAN, 0: untagged       |                               |
//	+-------------------------------+       MAC (6 bytes)           |
//	|                                                               |
//	+---------------------------------------------------------------+
//
// Cut (type 4): VLAN (2 bytes, 0: untagged) and state (1 byte), the role of the receiver for the
// sender in that VLAN. 0: an ordinary gateway; 1: the standby gateway of its LAN, blocked; 2: one
// of two gateways, and the one in use.
//
// Join test (type 5): VLAN (2 bytes, 0: untagged) and MAC (6 bytes): asks the receiver to send an
// ARP probe from that MAC to its LAN.
//
// Refused (type 6): what the sender refuses of what the receiver sends, and of what its own LAN
// sends. Each message replaces the one before. Its entries:
//
//	+---------------+---------------+-------------------------------+
//	|     kind      |     where     |     VLAN, 4095: not known     |
//	+---------------+---------------+-------------------------------+
//	|                      MAC, 0: not known (6 bytes)              |
//	+---------------------------------------------------------------+
//
// See refusal.go for the kinds. where is 0 for frames of the receiver and 1 for those of the
// sender's own LAN. VLAN and MAC are those of the last frame that was refused.
//
// Withdrawal (type 7): a list, as in an announcement, of MACs that no longer live on the sender's
// side.
const (
	ControlHeaderLen = 4

	controlHello    = 1
	controlProbe    = 2
	controlAnnounce = 3
	controlCut      = 4
	controlJoinTest = 5
	controlRefused  = 6
	controlWithdraw = 7

	cutLen      = 3
	cutOpen     = 0
	cutStandby  = 1
	cutActive   = 2
	joinTestLen = 8

	helloVersion = 1
	helloLen     = 32 // without PVID and key
	helloPVIDLen = 34
	helloKeyLen  = 50
	maxVLANsLen  = 512 // bytes of a list of VLANs
	flagEthernet = 1 << 0
	flagAnswer   = 1 << 1
	flagHub      = 1 << 2
	flagLeaving  = 1 << 3

	announceEntryLen = 8
	maxAnnounceBatch = 128 // 1028 bytes: fits every path
)

// Hello is the body of a hello message.
type Hello struct {
	Version  uint8
	Ethernet bool
	Answer   bool
	Hub      bool
	Leaving  bool
	MTU      int
	Node     uint64
	Secret   [16]byte
	Clock    uint32

	NamesVLAN bool   // PVID is present, and loop probes name their VLAN
	PVID      uint16 // VLAN of the sender's untagged frames; 4095 means none

	Keyed bool     // Key is present (and PVID), and loop probes carry tags
	Key   [16]byte // for the receiver's tag

	ListsVLANs bool    // VLANs is present (and Key)
	VLANs      vlanSet // those that the sender carries with the receiver; 0: untagged frames
}

// appendControl appends the header of a control message; the caller appends the body of n bytes.
func appendControl(b []byte, kind byte, n int) []byte {
	return append(b, kindControl<<4, kind, byte(n>>8), byte(n))
}

// Append appends h to b as a control message.
func (h *Hello) Append(b []byte) []byte {
	var flags byte
	for _, f := range [...]struct {
		on  bool
		bit byte
	}{{h.Ethernet, flagEthernet}, {h.Answer, flagAnswer}, {h.Hub, flagHub}, {h.Leaving, flagLeaving}} {
		if f.on {
			flags |= f.bit
		}
	}
	length := helloLen
	if h.NamesVLAN || h.Keyed {
		length = helloPVIDLen
	}
	var vlans []byte
	if h.Keyed {
		length = helloKeyLen
		if h.ListsVLANs {
			vlans = h.VLANs.bitmap()
			length += 2 + len(vlans)
		}
	}
	b = appendControl(b, controlHello, length)
	b = append(b, h.Version, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(min(h.MTU, 65535)))
	b = binary.BigEndian.AppendUint64(b, h.Node)
	b = append(b, h.Secret[:]...)
	b = binary.BigEndian.AppendUint32(b, h.Clock)
	if h.NamesVLAN || h.Keyed {
		b = binary.BigEndian.AppendUint16(b, h.PVID)
	}
	if h.Keyed {
		b = append(b, h.Key[:]...)
	}
	if vlans != nil {
		b = binary.BigEndian.AppendUint16(b, uint16(len(vlans)))
		b = append(b, vlans...)
	}
	return b
}

// ParseHello parses the body of a hello. ok is false if it is too short, or if its version or node
// is 0. Nothing of body is retained.
func ParseHello(body []byte) (h Hello, ok bool) {
	if len(body) < helloLen || body[0] == 0 {
		return h, false
	}
	h = Hello{
		Version: body[0], Ethernet: body[1]&flagEthernet != 0, Answer: body[1]&flagAnswer != 0, Hub: body[1]&flagHub != 0,
		Leaving: body[1]&flagLeaving != 0, MTU: int(binary.BigEndian.Uint16(body[2:])), Node: binary.BigEndian.Uint64(body[4:]),
		Secret: [16]byte(body[12:28]), Clock: binary.BigEndian.Uint32(body[28:]),
	}
	if len(body) >= helloPVIDLen {
		h.NamesVLAN, h.PVID = true, binary.BigEndian.Uint16(body[32:])
	}
	if len(body) >= helloKeyLen {
		h.Keyed, h.Key = true, [16]byte(body[34:])
	}
	if len(body) >= helloKeyLen+2 {
		n := int(binary.BigEndian.Uint16(body[helloKeyLen:]))
		if rest := body[helloKeyLen+2:]; n > 0 && n <= min(len(rest), maxVLANsLen) {
			h.ListsVLANs = true
			h.VLANs.setBitmap(rest[:n])
		}
	}
	return h, h.Node != 0
}

// parseControl returns the type and the body of a payload of KindControl; ok is false if it is
// shorter than its header says.
func parseControl(payload []byte) (kind byte, body []byte, ok bool) {
	if len(payload) < ControlHeaderLen || payload[0] != kindControl<<4 {
		return 0, nil, false
	}
	n := int(binary.BigEndian.Uint16(payload[2:]))
	if n > len(payload)-ControlHeaderLen {
		return 0, nil, false
	}
	return payload[1], payload[ControlHeaderLen : ControlHeaderLen+n], true
}

// AdmitControl reports whether the peer at port from may send another control message now. Call it
// before a message is queued for Control, so that a peer that exceeds its rate does not take queue
// space from the messages of others. The reason, which is counted for the port, is drop.None,
// drop.NotEthernetPeer (no such port) or drop.ControlRate. It takes no lock.
func (s *Switch) AdmitControl(now boottime.Time, from PortID) drop.Reason {
	p := s.view.Load().port(from)
	if p == nil || from == LocalPort {
		return drop.NotEthernetPeer
	}
	if !p.state.control.Take(now, 1, s.controlRate) {
		p.state.drops.Add(drop.ControlRate, 1)
		return drop.ControlRate
	}
	return drop.None
}

// Control handles a payload of KindControl from the peer at port from, after AdmitControl has
// accepted it. payload is not retained. Resulting actions are returned by the next Tick, which
// should follow soon. The reason, which is counted for the port, is drop.None; drop.NotEthernetPeer
// (no such port, or not a [tap] peer); drop.BadInnerPacket; drop.ControlRate or drop.StormBroadcast
// (too many join tests or changes of the node name, or too many probes); or the last reason for
// which an announced MAC was refused.
func (s *Switch) Control(now boottime.Time, from PortID, payload []byte) drop.Reason {
	p := s.view.Load().port(from)
	if p == nil || from == LocalPort {
		return drop.NotEthernetPeer
	}
	kind, body, ok := parseControl(payload)
	if !ok {
		p.state.drops.Add(drop.BadInnerPacket, 1)
		return drop.BadInnerPacket
	}
	reason := drop.None
	switch kind {
	case controlHello:
		reason = s.hello(now, from, body)
	case controlProbe:
		reason = s.hubProbe(now, p, body)
	case controlAnnounce:
		reason = s.announced(now, p, body)
	case controlCut:
		reason = s.takeCut(now, p, body)
	case controlJoinTest:
		reason = s.joinTest(now, p, body)
	case controlRefused:
		reason = s.takeRefused(now, p, body)
	case controlWithdraw:
		reason = s.withdrawnBy(now, p, body)
	}
	p.state.drops.Add(reason, 1)
	return reason
}

// announced handles a peer's list of MACs. Each is a claim like the source address of a frame, and
// passes the same checks.
func (s *Switch) announced(now boottime.Time, p *port, body []byte) drop.Reason {
	if !p.cfg.Ethernet {
		return drop.NotEthernetPeer
	}
	if s.view.Load().cfg.NoLearning {
		return drop.None
	}
	worst := drop.None
	for ; len(body) >= announceEntryLen; body = body[announceEntryLen:] {
		mac := MACFromBytes(body[2:])
		if !p.state.announce.Take(now, 1, s.announceRate) {
			return drop.StormUnknown
		}
		f := frameInfo{now: now, view: s.view.Load(), in: p}
		vid, ok := p.vlans.fromWire(binary.BigEndian.Uint16(body))
		switch {
		case !ok:
			worst = drop.VLANRefused
			continue
		case mac.Group() || mac == 0:
			worst = drop.SourceMulticast
			continue
		case mac == s.mac || !f.pinnedHere(mac) || f.view.otherSwitch(mac, p.id):
			worst = drop.SourceForeign
			continue
		case p.blocked != nil && p.blocked.has(vid):
			worst = drop.LoopBlocked
			continue
		}
		f.vid, f.h.Src = vid, mac
		if reason, done := s.assignedSource(&f); done {
			if reason != drop.None {
				worst = reason
			}
			continue
		}
		o := s.fdb.learn(entryKey(vid, mac), p.id, now)
		s.noteOutcome(now, entryKey(vid, mac), p.id, o)
		if o.fresh {
			s.appeared(now, entryKey(vid, mac), p.id)
		}
		if o.reason != drop.None {
			worst = o.reason
		} else if (o.fresh || o.moved) && p.state.tells.Take(now, 1, peerTellRate) {
			s.tellLAN(now, vid, mac)
		}
	}
	return worst
}

// Limits, in MACs per second, on what a peer may announce, and on what we tell our LAN as a result.
const (
	announceLimit = 1024
	tellLimit     = 512
)

// peerTellRate limits what one peer's announcements add to our LAN, so that those of another are
// not too many: all that a peer may have at once, and then a few.
var peerTellRate = limit.PerSecond(tellLimit/8, DefaultMaxPerPort)

// controlLimit is the number of control messages that a peer may send per second: processing them
// is expensive.
const controlLimit = 100

// tellLAN queues a gratuitous frame with source mac for the TAP, so that the bridge and the
// switches behind it send frames for that MAC to us. It is a RARP request, as QEMU sends after a
// migration; hosts ignore it.
func (s *Switch) tellLAN(now boottime.Time, vid uint16, mac MAC) {
	if !s.tell.Take(now, 1, s.tellRate) {
		return
	}
	b := appendHeader(make([]byte, 0, 64), Broadcast, mac, vid, vid != 0, typeRARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 3) // RFC 903: request reverse
	b = append(b, make([]byte, 60+tagLen-len(b))...)
	at := headerLen + 8
	if vid != 0 {
		at += tagLen
	}
	mac.Put(b[at:])
	mac.Put(b[at+10:])
	s.mu.Lock()
	s.toDevice(b)
	s.mu.Unlock()
}

// appendHeader appends an Ethernet header, with a tag for VLAN vid if tagged is set.
func appendHeader(b []byte, dst, src MAC, vid uint16, tagged bool, etherType uint16) []byte {
	var tag [18]byte
	h := Header{}
	if tagged {
		binary.BigEndian.PutUint16(tag[12:], typeVLAN)
		binary.BigEndian.PutUint16(tag[14:], vid)
		h.Tags = 1
	}
	return appendTagged(b, dst, src, tag[:], &h, etherType)
}

// switchMAC derives the MAC of a switch from its node name: locally administered, unicast, with a
// prefix that people can recognize.
func switchMAC(node uint64) MAC { return switchPrefix<<24 | MAC(node&0xffffff) }

// switchPrefix begins the MAC of every switch.
const switchPrefix MAC = 0x767464

// authenticate returns the 16-byte authenticator of the head of a probe under secret: HMAC-SHA-256,
// truncated (RFC 2104 §5).
func authenticate(secret *[16]byte, probe []byte) (sum [16]byte) {
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(probe)
	copy(sum[:], mac.Sum(nil))
	return sum
}

func authentic(secret *[16]byte, probe, sum []byte) bool {
	want := authenticate(secret, probe)
	return subtle.ConstantTimeCompare(want[:], sum) == 1
}

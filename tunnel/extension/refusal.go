package extension

import (
	"net/netip"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/peer"
)

// refusalEvery is how often a peer is told that packets of it are dropped, while they are. It is
// less than the time for which the peer shows that (peer.RefusalShown), so that one lost message
// does not make it vanish.
const refusalEvery = 5 * time.Second

// Refusal is the body of a refusal, which tells a peer that its packets are dropped on purpose:
//
//	+---------------+-----------------------------------------------+
//	|    reason     |                   reserved                    |
//	+---------------+-----------------------------------------------+
//	|         IP address (16 bytes; IPv4 as ::ffff:a.b.c.d)         |
//
//	reason   1: the address is the source of the packets, and not among the allowed IPs of the peer
type Refusal struct {
	Reason uint8
	Addr   netip.Addr // IPv4 is not mapped
}

// RefusedSource is the reason of a refusal: the source address belongs to somebody else.
const RefusedSource = 1

const refusalLen = 4 + 16

// Append appends the body of the refusal to b.
func (r Refusal) Append(b []byte) []byte {
	addr := r.Addr.As16()
	return append(append(b, r.Reason, 0, 0, 0), addr[:]...)
}

// ParseRefusal reads the body of a refusal. ok is false if it is too short. Reasons that are not
// known here are left to the caller.
func ParseRefusal(body []byte) (r Refusal, ok bool) {
	if len(body) < refusalLen {
		return r, false
	}
	return Refusal{body[0], netip.AddrFrom16([16]byte(body[4:])).Unmap()}, true
}

// ForeignSource is called by lanes when a peer goes on to send packets from an address that is not
// among its allowed IPs, at most once a second. It does not block.
func (x *Exchange) ForeignSource(p *peer.Peer) {
	if Features(p.Extension.Features())&FeatureRefusal != 0 {
		x.due.Arm(p.ExtensionDeadline(), atOnce)
	}
}

// checkRefusal tells p that packets of it are dropped, if they are. It returns when to look again;
// 0: when something happens.
func (x *Exchange) checkRefusal(p *peer.Peer, s *state) (next boottime.Time) {
	if s.keypair == nil || Features(p.Extension.Features())&FeatureRefusal == 0 {
		return 0
	}
	addr, at, refused := p.ForeignSource(x.now)
	if !refused || at.Add(refusalEvery) <= s.refusalAt { // it has been told, and nothing came since
		return 0
	}
	if s.refusalAt <= x.now {
		var body [refusalLen]byte
		x.Send(p, TypeRefusal, Refusal{RefusedSource, addr}.Append(body[:0]))
		s.refusalAt = x.now.Add(refusalEvery)
	}
	return s.refusalAt
}

// refusal handles the word of a peer that it drops our packets. It is shown, and changes nothing.
func (x *Exchange) refusal(m *Message) drop.Reason {
	r, ok := ParseRefusal(m.Body)
	if !ok {
		return drop.BadInnerPacket
	}
	if r.Reason == RefusedSource {
		m.Peer.NoteRefusal(r.Addr, m.At)
	}
	return drop.None
}

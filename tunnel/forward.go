package tunnel

import (
	"net/netip"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/l3"
)

// forwarder decides who gets a packet and from whom one is taken. Its two implementations, packets (layer 3) and
// frames (layer 2, forward_l2.go), are the only place where the layers differ: everything around them carries bytes.
// Each loop has its own, so it may keep scratch state.
type forwarder interface {
	// route appends the receivers of what was read from the device. A reason says why there are none, or fewer
	// than there should be.
	route(to []receiver, p *outgoing) ([]receiver, drop.Reason)
	// deliver checks a plaintext from a peer, which lies in the open slot of s, and commits or cancels the slot.
	deliver(s *sink, from *Peer, plaintext []byte, now boottime.Time) drop.Reason
	// forget ends a train: what was remembered of it is not to be trusted any more.
	forget()
	// flush is called when the loop is about to wait.
	flush(now boottime.Time)
}

// outgoing is one packet or superpacket read from a device.
type outgoing struct {
	packet  []byte // without the virtio header
	count   int    // segments
	longest int    // bytes of the longest of them
	now     boottime.Time
}

// receiver is a peer that gets the packet in hand, and how.
type receiver struct {
	peer    *Peer
	rewrite l2.Rewrite // of the VLAN tag, for this peer; zero at layer 3
	limit   int        // largest plaintext for one datagram, beyond which a frame is cut in two; 0: none

	// Filled in by the loop.
	slot *slot  // nil: staged
	next uint64 // counter of the next segment
	part uint16 // number of the next frame that is cut in two
}

// packets is cryptokey routing (whitepaper §2).
type packets struct {
	table *l3.Table[*Peer]

	// The source admitted last: the segments of a train share it. Forgotten at the end of each train.
	lastSource netip.Addr
	lastOwner  *Peer
}

func (f *packets) route(to []receiver, p *outgoing) ([]receiver, drop.Reason) {
	dst, ok := l3.ParseDestination(p.packet)
	if !ok {
		return to, drop.BadDevicePacket
	}
	peer, ok := f.table.Lookup(dst)
	if !ok {
		return to, drop.NoPeer
	}
	return append(to, receiver{peer: peer}), drop.None
}

func (f *packets) deliver(s *sink, from *Peer, plaintext []byte, _ boottime.Time) drop.Reason {
	h, ok := l3.ParseHeader(plaintext)
	if !ok {
		s.join.Cancel()
		return drop.BadInnerPacket
	}
	if h.Src != f.lastSource || from != f.lastOwner {
		owner, ok := f.table.Lookup(h.Src)
		if !ok || owner != from {
			s.join.Cancel()
			return drop.ForeignSource
		}
		f.lastSource, f.lastOwner = h.Src, from
	}
	s.commit(h.Length)
	return drop.None
}

func (f *packets) forget() { f.lastSource, f.lastOwner = netip.Addr{}, nil }

func (f *packets) flush(boottime.Time) {}

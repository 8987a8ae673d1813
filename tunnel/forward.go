package tunnel

import (
	"net/netip"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l3"
)

// forwarder decides who gets a packet and from whom one is taken. It is the only place where layer 3 and layer 2
// differ: everything around it carries bytes. Each loop has its own, so it may keep scratch state.
type forwarder interface {
	// route appends the receivers of pkt, read from the device and standing for count segments. A reason says why
	// there are none, or fewer than there should be.
	route(to []receiver, pkt []byte, count int, now boottime.Time) ([]receiver, drop.Reason)
	// admit checks a plaintext from a peer and returns how many of its bytes are the packet (with its prefix).
	admit(from *Peer, plaintext []byte, now boottime.Time) (length int, r drop.Reason)
	// forget ends a train: what was remembered of it is not to be trusted any more.
	forget()
}

// packets is cryptokey routing (whitepaper §2).
type packets struct {
	table *l3.Table[*Peer]

	// The source admitted last: the segments of a train share it. Forgotten at the end of each train.
	lastSource netip.Addr
	lastOwner  *Peer
}

func (f *packets) route(to []receiver, pkt []byte, _ int, _ boottime.Time) ([]receiver, drop.Reason) {
	h, ok := l3.ParseDestination(pkt)
	if !ok {
		return to, drop.BadDevicePacket
	}
	p, ok := f.table.Lookup(h)
	if !ok {
		return to, drop.NoPeer
	}
	return append(to, receiver{peer: p}), drop.None
}

func (f *packets) admit(from *Peer, plaintext []byte, _ boottime.Time) (int, drop.Reason) {
	h, ok := l3.ParseHeader(plaintext)
	if !ok {
		return 0, drop.BadInnerPacket
	}
	if h.Src == f.lastSource && from == f.lastOwner {
		return h.Length, drop.None
	}
	owner, ok := f.table.Lookup(h.Src)
	if !ok || owner != from {
		return 0, drop.ForeignSource
	}
	f.lastSource, f.lastOwner = h.Src, from
	return h.Length, drop.None
}

// forget drops what was remembered of a train, so that a change of the table is seen by the next one.
func (f *packets) forget() { f.lastSource, f.lastOwner = netip.Addr{}, nil }

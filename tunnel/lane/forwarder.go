package lane

import (
	"net/netip"
	"sync/atomic"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l3"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
)

// Forwarder decides who gets a packet and from whom one is accepted. Its two implementations,
// NewIPForwarder (layer 3) and tunnel/ethernet (layer 2), are the only places where the layers
// differ: everything around them transports bytes. Each loop has its own, so it may keep scratch
// state.
type Forwarder interface {
	// Route appends the recipients of what was read from the device, and sets p.IP. A reason tells
	// why there are none, or fewer than there should be; the loop counts it for the tunnel, the
	// forwarder for the device.
	Route(to []Recipient, p *Outgoing) ([]Recipient, drop.Reason)
	// Reshape gives what was read another form, identified by a number that Route assigned to a
	// recipient. buf is the read, including its virtio header; it lies in mem behind Headroom, into
	// which it may grow. Reshape returns the slice where it lies then.
	Reshape(mem, buf []byte, form int) []byte
	// Cut makes two plaintexts from one that is longer than r.Limit. They are valid until the next
	// call. ok is false if two are not enough.
	Cut(r *Recipient, plaintext []byte) (first, second []byte, ok bool)

	// Deliver checks a plaintext from a peer and returns what the device gets, without its prefix:
	// a part of plaintext after the prefix, memory of its own that is valid until the next call, or
	// nil for nothing. A reason tells why a packet was dropped; the loop counts it for the tunnel,
	// the forwarder for the peer.
	Deliver(from *peer.Peer, plaintext []byte, now boottime.Time) ([]byte, drop.Reason)
	// EndTrain ends a train: what was remembered about it is no longer valid.
	EndTrain()
	// Flush is called when the receive loop is about to wait.
	Flush(now boottime.Time)
}

// Headroom is the number of bytes before each read into which Reshape may let it grow: a VLAN tag.
const Headroom = 4

// Outgoing is one packet or superpacket read from a device.
type Outgoing struct {
	Packet   []byte // as read from the device, without the virtio header
	Segments int
	Longest  int // bytes of the longest of them
	Now      boottime.Time

	IP []byte // set by Route: the IP packet in Packet, or a substitute for it
}

// Recipient is a peer that gets the present packet, and how.
type Recipient struct {
	Peer *peer.Peer
	Form int // the form in which it gets it: 0 as it was read, or a number for Reshape
	// Largest plaintext, in bytes, for one datagram; a longer one is cut in two. 0: no limit.
	Limit int

	// Filled in by the loop.
	keypair *peer.Keypair // nil: staged
	counter uint64        // of the next segment
}

// ipForwarder implements cryptokey routing (whitepaper §2).
type ipForwarder struct {
	table *l3.Table[*peer.Peer]
	via   *atomic.Pointer[Via]
	dev   *Device
	queue tundev.Queue // for what the senders of packets have to be told
	// Called when a peer goes on to send from an address that is not its own; must not block.
	foreign func(*peer.Peer)

	first, second []byte // the fragments of a packet

	// The source admitted last, which the segments of a train share. It is forgotten at the end of
	// each train.
	lastSource netip.Addr
	lastOwner  *peer.Peer
}

// NewIPForwarder returns the layer 3 forwarder of a device: packets go to the peer that owns their
// destination in table, and are accepted from a peer that owns their source. What the senders of
// packets have to be told is written to the queue.
//
// While via holds a table, that decides who gets a packet: it has the destinations that the
// kernel's routes send to each peer. What it does not have goes to the owner if that has it alone.
//
// foreign is called at most once a second while a peer goes on to send from addresses that it does
// not own. It must not block.
func NewIPForwarder(
	table *l3.Table[*peer.Peer], via *atomic.Pointer[Via], dev *Device, queue tundev.Queue, foreign func(*peer.Peer),
) Forwarder {
	return &ipForwarder{table: table, via: via, dev: dev, queue: queue, foreign: foreign}
}

// Via is a table of destinations by the peer that is their next router.
type Via = l3.Table[*peer.Peer]

// recipient returns who gets a packet to dst.
func (f *ipForwarder) recipient(dst netip.Addr) (*peer.Peer, bool) {
	via := f.via.Load()
	if via == nil {
		return f.table.Lookup(dst)
	}
	if router, ok := via.Lookup(dst); ok {
		return router, true
	}
	return f.table.LookupSole(dst)
}

func (f *ipForwarder) Route(to []Recipient, p *Outgoing) ([]Recipient, drop.Reason) {
	p.IP = p.Packet
	reason := drop.NoPeer
	if dst, ok := l3.ParseDestination(p.Packet); !ok {
		reason = drop.BadDevicePacket
	} else if owner, ok := f.recipient(dst); ok {
		limit := owner.Extension.Limit()
		if limit == 0 || p.Longest <= limit {
			return append(to, Recipient{Peer: owner, Limit: limit}), drop.None
		}
		return f.tooLong(to, p, owner, limit)
	}
	f.dev.CountDrop(reason, uint64(p.Segments))
	return to, reason
}

func (f *ipForwarder) Reshape(_, buf []byte, _ int) []byte { return buf }

func (f *ipForwarder) Deliver(from *peer.Peer, plaintext []byte, now boottime.Time) ([]byte, drop.Reason) {
	h, ok := l3.ParseHeader(plaintext)
	if !ok {
		from.CountDrop(drop.BadInnerPacket, 1)
		return nil, drop.BadInnerPacket
	}
	if h.Src != f.lastSource || from != f.lastOwner {
		if !f.table.Admits(h.Src, from) {
			if from.DropForeign(h.Src, now) {
				f.foreign(from)
			}
			return nil, drop.ForeignSource
		}
		f.lastSource, f.lastOwner = h.Src, from
		f.dev.noteOutward(h.Src, h.Dst)
	}
	return plaintext[:h.Length], drop.None
}

func (f *ipForwarder) EndTrain() { f.lastSource, f.lastOwner = netip.Addr{}, nil }

func (f *ipForwarder) Flush(boottime.Time) {}

package lane

import (
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
	"tund/internal/sizes"
	"tund/tunnel/l3"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
)

// tooBigRate bounds the ICMP messages about packets that are too large for the path to one peer,
// per second and at once: each flow needs one, and a sender that ignores it must not have us send
// another for each packet.
var tooBigRate = limit.PerSecond(100, 100)

// tooLong decides about a packet, or a superpacket whose segments are longer than limit, which is
// the largest plaintext that the path to its owner carries. What may be fragmented will be; the
// sender of anything else is told what fits. Over IPv4 the packet is sent all the same, since the
// routers on the way fragment our datagrams: nothing is lost until the sender has adapted. Over
// IPv6 they drop them, and so it is dropped here.
func (f *ipForwarder) tooLong(to []Recipient, p *Outgoing, owner *peer.Peer, limit int) ([]Recipient, drop.Reason) {
	if p.Packet[0]>>4 == 6 {
		// Every link has to carry packets of this size (RFC 8200 §5), so nobody can be told to send
		// smaller ones.
		limit = max(limit, sizes.MinIPv6MTU)
		if p.Longest <= limit {
			return append(to, Recipient{Peer: owner, Limit: limit}), drop.None
		}
	} else if l3.MayFragment(p.Packet) {
		if p.Longest > 2*(limit-l3.IPv4HeaderLen-8) {
			limit = 0 // two fragments are not enough: the underlay makes them
		}
		return append(to, Recipient{Peer: owner, Limit: limit}), drop.None
	}
	if ep := owner.Endpoint(); ep != nil && ep.Addr.Addr().Is4() {
		if !l3.IsICMP(p.Packet) { // ping(8) takes the message for the answer, which comes as well
			f.tell(p.Packet, owner, limit, p.Now)
		}
		return append(to, Recipient{Peer: owner}), drop.None
	}
	f.tell(p.Packet, owner, limit, p.Now)
	f.dev.CountDrop(drop.TooBig, uint64(p.Segments))
	owner.CountDrop(drop.TooBig, uint64(p.Segments))
	return to, drop.TooBig
}

// tell writes to the device the ICMP message that pkt is longer than mtu, as far as the rate
// allows.
func (f *ipForwarder) tell(pkt []byte, owner *peer.Peer, mtu int, now boottime.Time) {
	if !owner.TooBig().Take(now, 1, tooBigRate) {
		return
	}
	b := make([]byte, offload.VirtioHeaderLen, offload.VirtioHeaderLen+sizes.MinIPv6MTU)
	b, ok := l3.AppendTooBig(b, pkt, mtu)
	if ok && f.queue.Write(b) != nil {
		f.dev.CountDrop(drop.DeviceWrite, 1)
	}
}

// Cut fragments a packet that may be fragmented (Forwarder). Padding would not fit.
func (f *ipForwarder) Cut(r *Recipient, pkt []byte) (first, second []byte, ok bool) {
	if !l3.MayFragment(pkt) {
		return nil, nil, false
	}
	f.first, f.second, ok = l3.Fragment(f.first, f.second, pkt, r.Limit)
	return f.first, f.second, ok
}

package lane

import (
	"encoding/binary"

	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/capture"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/udp"
)

// Everything here runs only while somebody captures packets, or after a packet was dropped.

// ── device to peer ───────────────────────────────────────────────────────────

// offer hands a packet of the device to those who capture.
func (o *SendLoop) offer(p *peer.Peer, data []byte, segments int, waits bool, reason drop.Reason) {
	o.captures.Packet(o.tap, &capture.Packet{
		Data: data, Device: o.dev.Index, Waits: waits, Reason: reason, Peer: p, Segments: segments, Time: o.now,
	})
}

// captureSent hands over the present packet once for each recipient, in the form in which they get
// it.
func (o *SendLoop) captureSent(to []Recipient) {
	for i := range to {
		o.offer(to[i].Peer, o.split.Frame(), o.split.Count(), to[i].keypair == nil, drop.None)
	}
}

// captureLost hands over the present packet as dropped, before it was cut.
func (o *SendLoop) captureLost(p *peer.Peer, reason drop.Reason) {
	if o.captures != nil {
		o.offer(p, o.split.Frame(), o.split.Count(), false, reason)
	}
}

// captureSegment hands over one segment, with the prefix of its device, as dropped.
func (o *SendLoop) captureSegment(p *peer.Peer, segment []byte, reason drop.Reason) {
	if o.captures != nil {
		o.offer(p, segment[o.dev.Prefix:], 1, false, reason)
	}
}

// dropRead counts what was read from the device as dropped, whatever it is.
func (o *SendLoop) dropRead(buf []byte, reason drop.Reason) {
	o.drop(reason, 1)
	if o.captures != nil && len(buf) > offload.VirtioHeaderLen {
		o.offer(nil, buf[offload.VirtioHeaderLen:], 1, false, reason)
	}
	o.captures = nil
}

// ── peer to device ───────────────────────────────────────────────────────────

// captureInner hands over a packet from the peer of the present run: what the device gets or would
// have got, or else the plaintext, if that was dropped. What is neither, half a frame, is not
// handed over.
func (in *ReceiveLoop) captureInner(dev *Device, plaintext, packet []byte, reason drop.Reason) {
	if packet == nil {
		if reason == drop.None {
			return
		}
		packet = payloadOf(plaintext, dev)
	}
	in.captures.Packet(in.tap, &capture.Packet{
		Data: packet, Device: dev.Index, In: true, Reason: reason, Peer: in.run.keypair.Peer, Time: in.now,
	})
}

// captureRefused hands over a plaintext that was dropped before its device had it.
func (in *ReceiveLoop) captureRefused(link offload.Link, plaintext []byte, reason drop.Reason) {
	if w := in.writers[link]; in.captures != nil && w != nil {
		in.captureInner(w.dev, plaintext, nil, reason)
	}
}

// payloadOf returns the packet or frame in a plaintext, without padding as far as its length can be
// believed.
func payloadOf(plaintext []byte, dev *Device) []byte {
	if len(plaintext) <= dev.Prefix {
		return nil
	}
	b := plaintext[dev.Prefix:]
	n := len(b)
	switch {
	case dev.Prefix >= 4: // docs/protocol-ethernet.md: the length of the frame
		n = int(binary.BigEndian.Uint16(plaintext[2:]))
	case b[0]>>4 == 4 && n >= 20:
		n = int(binary.BigEndian.Uint16(b[2:]))
	case b[0]>>4 == 6 && n >= 40:
		n = 40 + int(binary.BigEndian.Uint16(b[4:]))
	}
	if n == 0 || n > len(b) {
		return b
	}
	return b[:n]
}

// captureTrain hands over the datagrams of a train as they came.
func (in *ReceiveLoop) captureTrain(tr *udp.Train, size int) {
	port := in.lane.Conn().Port()
	class := uint8(0)
	if tr.CE {
		class = ecnCE
	}
	for off := 0; off < tr.N; off += size {
		data := tr.Buf[off:min(off+size, tr.N)]
		in.captures.Datagram(in.tap, &capture.Datagram{
			Data: data, In: true, Remote: tr.From.Addr, Local: tr.From.Source, Port: port, Class: class,
			Peer: in.senderOf(data), Time: in.now,
		}, false)
	}
}

// senderOf returns the peer that a datagram claims to be from, by its receiver index; nil if it has
// none, or one that nobody has.
func (in *ReceiveLoop) senderOf(d []byte) *peer.Peer {
	kind, ok := wire.Kind(d)
	if !ok {
		return nil
	}
	var index uint32
	switch kind {
	case wire.TypeTransport:
		index = wire.TransportReceiver(d)
	case wire.TypeResponse:
		index = wire.ResponseReceiver(d)
	default:
		return nil
	}
	owner, _ := in.env.Index.Get(index)
	return owner.Peer
}

// ── datagrams sent ───────────────────────────────────────────────────────────

// captureRuns hands over the datagrams of the batch that the kernel has taken.
func (b *Batch) captureRuns(now boottime.Time) {
	captures := b.env.Taps.Load()
	if captures == nil || !captures.Outer() {
		return
	}
	for i := range b.runs {
		r := &b.runs[i]
		rest := r.Buf
		for range r.Sent {
			n := min(len(rest), r.Segment)
			captures.Datagram(b.tap, &capture.Datagram{
				Data: rest[:n], Remote: r.To.Addr, Local: r.To.Source, Port: b.lane.Conn().Port(), Class: r.Class,
				Peer: b.infos[i].peer, Time: now,
			}, false)
			rest = rest[n:]
		}
	}
}

// captureMessage hands over a datagram of a handshake that is about to be sent to a peer, which is
// nil if it is not known.
func (b *Batch) captureMessage(p *peer.Peer, msg []byte, to *udp.Endpoint) {
	captures := b.env.Taps.Load()
	if captures == nil || !captures.Outer() {
		return
	}
	local := to.Source
	if !local.IsValid() {
		local = capture.LocalAddr(to.Addr)
	}
	captures.Datagram(b.tap, &capture.Datagram{
		Data: msg, Remote: to.Addr, Local: local, Port: b.lane.Conn().Port(), Class: b.env.DSCP.plain(), Peer: p, Time: b.env.Clock.Now(),
	}, true)
}

package lane

import (
	"encoding/binary"
	"errors"

	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/capture"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
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

// capture hands over what was written to the device: superpackets in the form that it got, because
// the packets of a fast flow, one by one, are more than anybody takes in time.
func (w *deviceWriter) capture(captures *capture.Set, frame []byte, index uint32, err error) {
	var h offload.VirtioHeader
	h.Decode(frame)
	data := frame[offload.VirtioHeaderLen:]
	one := capture.Packet{Data: data, Device: w.dev.Index, In: true, Segments: 1, Time: w.now}
	if size := int(h.GSOSize); size > 0 {
		one.Segments = (len(data) - int(h.HdrLen) + size - 1) / size
	}
	if owner, ok := w.env.Index.Get(index); ok { // the session may have ended since
		one.Peer = owner.Peer
	}
	// What was refused is written in another form.
	if err != nil && !errors.Is(err, tundev.ErrRefused) {
		one.Reason = drop.DeviceWrite
	}
	captures.Packet(w.tap, &one)
}

// captureDropped hands over a packet from the peer of the present run that was dropped: what the
// device would have got, or else the plaintext.
func (in *ReceiveLoop) captureDropped(dev *Device, plaintext, packet []byte, reason drop.Reason) {
	if packet == nil {
		packet = payloadOf(plaintext, dev)
	}
	in.captures.Packet(in.tap, &capture.Packet{
		Data: packet, Device: dev.Index, In: true, Reason: reason, Peer: in.run.keypair.Peer, Time: in.now,
	})
}

// captureRefused hands over a plaintext that was dropped before its device had it.
func (in *ReceiveLoop) captureRefused(link offload.Link, plaintext []byte, reason drop.Reason) {
	if w := in.writers[link]; in.captures != nil && w != nil {
		in.captureDropped(w.dev, plaintext, nil, reason)
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

// captureDatagram hands over one datagram of a train, and why it was dropped.
func (in *ReceiveLoop) captureDatagram(tr *udp.Train, data []byte, reason drop.Reason) {
	class := uint8(0)
	if tr.CE {
		class = ecnCE
	}
	in.captures.Datagram(in.tap, &capture.Datagram{
		Data: data, In: true, Remote: tr.From.Addr, Local: tr.From.Source, Port: in.lane.Conn().Port(), Class: class,
		Reason: reason, Peer: in.env.senderOf(data), Time: in.now,
	}, false)
}

// CaptureReceived hands over a handshake message that was received at a time, with the reason for
// which it was dropped. p is the peer that it claims to be from; nil: that named by its receiver
// index, if there is one.
func (b *Batch) CaptureReceived(p *peer.Peer, msg []byte, from *udp.Endpoint, at boottime.Time, reason drop.Reason) {
	captures := b.env.Taps.Load()
	if captures == nil || !captures.Outer() {
		return
	}
	if p == nil {
		p = b.env.senderOf(msg)
	}
	captures.Datagram(b.tap, &capture.Datagram{
		Data: msg, In: true, Remote: from.Addr, Local: from.Source, Port: b.lane.Conn().Port(), Reason: reason, Peer: p, Time: at,
	}, b.waits)
}

// senderOf returns the peer that a datagram claims to be from, by its receiver index; nil if it has
// none, or one that nobody has.
func (e *Env) senderOf(d []byte) *peer.Peer {
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
	case wire.TypeCookieReply:
		index = wire.CookieReplyReceiver(d)
	default:
		return nil
	}
	owner, _ := e.Index.Get(index)
	return owner.Peer
}

// ── datagrams sent ───────────────────────────────────────────────────────────

// captureRuns hands over the datagrams of the batch, and which the kernel has refused.
func (b *Batch) captureRuns(now boottime.Time) {
	captures := b.env.Taps.Load()
	if captures == nil || !captures.Outer() {
		return
	}
	for i := range b.runs {
		r := &b.runs[i]
		one := capture.Datagram{
			Remote: r.To.Addr, Local: r.To.Source, Port: b.lane.Conn().Port(), Class: r.Class, Peer: b.infos[i].peer, Time: now,
		}
		for n, rest := 0, r.Buf; len(rest) > 0; n++ {
			size := min(len(rest), r.Segment)
			one.Data, rest = rest[:size], rest[size:]
			if n >= r.Sent {
				one.Reason = ReasonOf(r.Err)
			}
			captures.Datagram(b.tap, &one, b.waits)
		}
	}
}

// captureMessage hands over a datagram of a handshake that was sent at a time to a peer, which is
// nil if it is not known, or that the kernel refused with err.
func (b *Batch) captureMessage(p *peer.Peer, msg []byte, to *udp.Endpoint, at boottime.Time, err error) {
	captures := b.env.Taps.Load()
	if captures == nil || !captures.Outer() {
		return
	}
	reason := drop.None
	if err != nil {
		reason = ReasonOf(err)
	}
	local := to.Source
	if !local.IsValid() {
		local = capture.LocalAddr(to.Addr)
	}
	captures.Datagram(b.tap, &capture.Datagram{
		Data: msg, Remote: to.Addr, Local: local, Port: b.lane.Conn().Port(), Class: b.env.DSCP.plain(),
		Reason: reason, Peer: p, Time: at,
	}, b.waits)
}

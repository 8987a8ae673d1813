package ethernet

import (
	"bytes"
	"time"

	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
)

// frames is the switch from the point of view of one loop (lane.Forwarder).
type frames struct {
	lan     *LAN
	lane    *lane.Lane
	queue   tundev.Queue
	verdict l2.Verdict

	fragments fragmenter

	// Used only from device to peer.
	forms []l2.Rewrite // what the form numbers of the present packet mean, less one

	// Used only from peer to device.
	parts    *l2.Reassembler
	longest  int // longest frame that parts accepts
	sweptAt  boottime.Time
	scratch  []byte      // a frame whose form was changed
	hub      *lane.Batch // towards other peers; nil until one is needed
	lastHead [maxHead]byte
	lastLen  int // length of lastHead; 0: nothing is remembered
	lastPeer *peer.Peer
}

const (
	// maxHead is the part of a frame that decides whether its successors in a train are treated
	// like it: addresses, one tag and the type.
	maxHead = macLen + tagLen
	// maxSYN is the size below which a read may open a TCP connection.
	maxSYN = 2048
	// hubArena holds relayed frames, in bytes, until the loop waits or the arena is full.
	hubArena = 160 << 10
)

// Route implements lane.Forwarder.
func (f *frames) Route(to []lane.Recipient, p *lane.Outgoing) ([]lane.Recipient, drop.Reason) {
	p.IP = afterMACs(p.Packet)
	reason := f.lan.sw.FromDevice(p.Now, l2.Superpacket{Frame: p.Packet, Segments: p.Segments, Longest: p.Longest}, &f.verdict)
	if len(f.verdict.Reply) > 0 {
		f.lan.writeFrame(f.queue, f.verdict.Reply)
	}
	if f.verdict.Wake {
		f.lan.kick()
	}
	f.forms = f.forms[:0]
	inner := f.lan.inner.Load()
	for _, out := range f.verdict.Out {
		if p := f.lan.peer(out.Port); p != nil {
			to = append(to, lane.Recipient{Peer: p, Form: f.form(out.Rewrite), Limit: f.lan.cutLimit(p)})
			inner = min(inner, f.lan.innerOf(p))
		}
	}
	// A SYN is small, and Begin has completed its checksum.
	if p.Segments == 1 && p.Longest < maxSYN {
		f.clamp(p.Packet, inner)
	}
	return to, reason
}

// clamp lowers the MSS in a frame that opens a TCP connection, to what fits into a plaintext of
// inner bytes.
func (f *frames) clamp(frame []byte, inner int32) {
	if limit := f.lan.mssLimit(inner); limit > 0 {
		mss4, mss6 := l2.MSS(limit)
		l2.ClampMSS(frame, mss4, mss6, false)
	}
}

// Deliver takes a frame, or half of one, from a peer (lane.Forwarder).
func (f *frames) Deliver(from *peer.Peer, plaintext []byte, now boottime.Time) ([]byte, drop.Reason) {
	h, frame, reason := l2.ParseFrame(plaintext)
	if reason != drop.None {
		from.CountDrop(reason, 1)
		return nil, reason
	}
	if h.Fragment {
		if frame, reason = f.join(from, &h, frame, now); frame == nil {
			from.CountDrop(reason, 1)
			return nil, reason
		}
		return f.admit(from, h.Hops, frame, now)
	}
	if f.likeLast(from, frame) {
		return frame, drop.None
	}
	return f.admit(from, h.Hops, frame, now)
}

// join keeps half a frame, and returns the frame once it is complete.
func (f *frames) join(from *peer.Peer, h *l2.FrameHeader, part []byte, now boottime.Time) ([]byte, drop.Reason) {
	if !f.lan.Carries(from) {
		return nil, drop.NotEthernetPeer
	}
	if longest := f.lan.maxFrame(); f.parts == nil || f.longest != longest {
		f.parts, f.longest = l2.NewReassembler(longest, f.lan.sw), longest
	}
	return f.parts.Add(now, l2.PortID(from.Port.Load()), h, part)
}

// admit submits a whole frame to the switch, carries out what the switch decides about other peers,
// and returns what the device gets. The switch counts what it drops at a port.
func (f *frames) admit(from *peer.Peer, hops uint8, frame []byte, now boottime.Time) ([]byte, drop.Reason) {
	f.lastLen = 0
	v := &f.verdict
	reason := f.lan.sw.FromPeer(now, l2.PortID(from.Port.Load()), hops, l2.Superpacket{Frame: frame, Segments: 1}, v)
	if v.Wake {
		f.lan.kick()
	}
	if reason != drop.None {
		return nil, reason
	}
	f.clamp(frame, f.lan.innerOf(from))
	if len(v.Out) > 0 {
		f.captureRelayed(from, frame, now)
		f.relay(frame, now)
	}
	switch {
	case !v.ToDevice:
		return nil, drop.None
	case v.DeviceRewrite == (l2.Rewrite{}):
		if v.Known {
			f.remember(from, frame)
		}
		return frame, drop.None
	}
	f.scratch = append(append(f.scratch[:0], make([]byte, tagLen)...), frame...)
	return f.scratch[v.DeviceRewrite.Apply(f.scratch, tagLen):], drop.None
}

// relay forwards a frame from one peer to others, on a hub.
func (f *frames) relay(frame []byte, now boottime.Time) {
	if f.hub == nil {
		f.hub = lane.NewBatch(f.lan.env, f.lane, hubArena)
	}
	for _, out := range f.verdict.Out {
		port := f.lan.port(out.Port)
		if port == nil {
			continue
		}
		b := append(f.scratch[:0], make([]byte, l2.FrameHeaderLen+tagLen)...)
		b = append(b, frame...)
		at := out.Rewrite.Apply(b, l2.FrameHeaderLen+tagLen) - l2.FrameHeaderLen
		l2.PutFrameHeader(b[at:], f.verdict.Hops, len(b)-at-l2.FrameHeaderLen)
		f.scratch = f.relayTo(port, b, at, now)
	}
}

// relayTo sends the payload b[at:] to one peer, in two parts if it is too long for one. It returns
// b, which may have grown.
func (f *frames) relayTo(port *port, b []byte, at int, now boottime.Time) []byte {
	limit := f.lan.cutLimit(port.peer)
	if length := len(b) - at; limit == 0 || length <= limit {
		b = wire.Pad(b, at, limit)
		f.hub.Transmit(port.peer, b[at:], now)
		return b
	}
	first, second, ok := f.fragments.cut(port, f.verdict.Hops, b[at+l2.FrameHeaderLen:], limit)
	if !ok {
		f.lan.env.Drop(port.peer, drop.TooBig, 1)
		return b
	}
	f.hub.Transmit(port.peer, first, now)
	f.hub.Transmit(port.peer, second, now)
	return b
}

// likeLast reports whether the frame needs no decision of its own. That is the case if it has the
// same peer, addresses, tag and type as the frame before it in this train, which went to the TAP
// unchanged, and carries TCP, which no guard examines.
func (f *frames) likeLast(from *peer.Peer, frame []byte) bool {
	n := f.lastLen
	return n > 0 && from == f.lastPeer && len(frame) > n+20 && len(frame) <= f.lan.maxFrame() &&
		bytes.Equal(frame[:n], f.lastHead[:n]) && isPlainTCP(frame, n)
}

// remember keeps the head of a frame that went to the TAP unchanged, if the frames after it may
// follow without a decision of their own.
func (f *frames) remember(from *peer.Peer, frame []byte) {
	n := macLen
	if len(frame) > maxHead && frame[12] == 0x81 && frame[13] == 0 {
		n = maxHead
	}
	if len(frame) > n+20 && frame[0]&1 == 0 && isPlainTCP(frame, n) {
		f.lastLen, f.lastPeer = copy(f.lastHead[:n], frame), from
	}
}

// isPlainTCP reports whether an IP packet at frame[n:] is TCP without extension headers, is not a
// later fragment, and is not a SYN, whose MSS may have to be lowered.
func isPlainTCP(frame []byte, n int) bool {
	ip := frame[n:]
	switch {
	case frame[n-2] == 0x08 && frame[n-1] == 0 && ip[0] == 0x45:
		return ip[9] == 6 && ip[6]&0x3f == 0 && ip[7] == 0 && len(ip) > 33 && ip[33]&2 == 0
	case frame[n-2] == 0x86 && frame[n-1] == 0xdd && ip[0]>>4 == 6:
		return ip[6] == 6 && len(ip) > 53 && ip[53]&2 == 0
	}
	return false
}

// EndTrain implements lane.Forwarder.
func (f *frames) EndTrain() { f.lastLen, f.lastPeer = 0, nil }

// Flush implements lane.Forwarder.
func (f *frames) Flush(now boottime.Time) {
	if f.hub != nil {
		f.hub.Flush(now)
	}
	if f.parts != nil && now.Sub(f.sweptAt) > time.Second {
		f.sweptAt = now
		lost := f.parts.TakeLost(now)
		f.lan.env.Drops.Add(drop.ReassemblyFull, lost.Full)
		f.lan.env.Drops.Add(drop.ReassemblyLost, lost.Old)
	}
}

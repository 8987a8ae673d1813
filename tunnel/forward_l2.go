package tunnel

import (
	"bytes"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// frames is the Ethernet switch as one loop sees it.
type frames struct {
	e       *ethernet
	lane    *lane
	queue   tundev.Queue
	verdict l2.Verdict

	// Peer to device only.
	parts    *l2.Reassembler
	longest  int // frame that parts takes
	sweptAt  boottime.Time
	scratch  []byte  // a frame in another form than it came
	half     []byte  // of a frame that is passed on
	hub      *sealer // towards other peers; nil until one is needed
	lastHead [maxHead]byte
	lastLen  int // of lastHead; 0: nothing is remembered
	lastPeer *Peer
}

// maxHead is how much of a frame decides about its neighbours in a train: addresses, one tag and the type.
const maxHead = 18

func newFrames(e *ethernet, l *lane, q tundev.Queue) *frames {
	return &frames{e: e, lane: l, queue: q}
}

func (f *frames) route(to []receiver, p *outgoing) ([]receiver, drop.Reason) {
	if p.count == 1 && p.longest < sparseBytes { // a SYN is small, and Begin has completed its checksum
		f.clamp(p.packet)
	}
	reason := f.e.sw.FromDevice(p.now, l2.Superpacket{Frame: p.packet, Segments: p.count, Longest: p.longest}, &f.verdict)
	if len(f.verdict.Reply) > 0 {
		f.e.writeFrame(f.queue, f.verdict.Reply)
	}
	if f.verdict.Wake {
		f.e.kick()
	}
	limit := f.e.cutLimit()
	for _, out := range f.verdict.Out {
		if peer := f.e.peer(out.Port); peer != nil {
			to = append(to, receiver{peer: peer, rewrite: out.Rewrite, limit: limit})
		}
	}
	return to, reason
}

// clamp lowers the MSS in a frame that opens a TCP connection.
func (f *frames) clamp(frame []byte) {
	if limit := f.e.mssLimit(); limit > 0 {
		mss4, mss6 := l2.MSS(limit)
		l2.ClampMSS(frame, mss4, mss6, false)
	}
}

// deliver takes a frame, or half of one, from a peer.
func (f *frames) deliver(s *sink, from *Peer, plaintext []byte, now boottime.Time) drop.Reason {
	h, frame, reason := l2.ParseFrame(plaintext)
	if reason != drop.None {
		s.join.Cancel()
		return reason
	}
	if h.Fragment {
		return f.fragment(s, from, &h, frame, now)
	}
	if f.likeLast(from, frame) {
		s.commit(l2.FrameHeaderLen + len(frame))
		return drop.None
	}
	return f.admit(s, from, h.Hops, frame, now)
}

// fragment keeps half a frame, and delivers the frame when it is whole.
func (f *frames) fragment(s *sink, from *Peer, h *l2.FrameHeader, part []byte, now boottime.Time) drop.Reason {
	if !from.ethernet.Load() {
		s.join.Cancel()
		return drop.NotEthernetPeer
	}
	if longest := f.e.maxFrame(); f.parts == nil || f.longest != longest {
		f.parts, f.longest = l2.NewReassembler(longest), longest
	}
	frame, reason := f.parts.Add(now, l2.PortID(from.port.Load()), h, part)
	s.join.Cancel()
	if frame == nil {
		return reason
	}
	slot := s.join.Slot(l2.FrameHeaderLen + len(frame))
	if slot == nil {
		return drop.OversizeFrame
	}
	l2.PutFrameHeader(slot, h.Hops, len(frame))
	copy(slot[l2.FrameHeaderLen:], frame)
	return f.admit(s, from, h.Hops, slot[l2.FrameHeaderLen:][:len(frame)], now)
}

// admit asks the switch about a whole frame in the open slot of s, and does what it says.
func (f *frames) admit(s *sink, from *Peer, hops uint8, frame []byte, now boottime.Time) drop.Reason {
	f.lastLen = 0
	reason := f.e.sw.FromPeer(now, l2.PortID(from.port.Load()), hops, l2.Superpacket{Frame: frame, Segments: 1}, &f.verdict)
	v := &f.verdict
	if v.Wake {
		f.e.kick()
	}
	if reason != drop.None {
		s.join.Cancel()
		return reason
	}
	f.clamp(frame)
	if len(v.Out) > 0 {
		f.relay(frame, now)
	}
	switch {
	case !v.ToDevice:
		s.join.Cancel()
	case v.DeviceRewrite == (l2.Rewrite{}):
		if v.Known {
			f.remember(from, frame)
		}
		s.commit(l2.FrameHeaderLen + len(frame))
	default:
		f.rewriteInto(s, frame, v.DeviceRewrite)
	}
	return drop.None
}

// rewriteInto delivers a frame that the LAN gets with another VLAN tag than it came with.
func (f *frames) rewriteInto(s *sink, frame []byte, r l2.Rewrite) {
	f.scratch = append(append(f.scratch[:0], make([]byte, tagRoom)...), frame...)
	out := f.scratch[r.Apply(f.scratch, tagRoom):]
	s.join.Cancel()
	slot := s.join.Slot(l2.FrameHeaderLen + len(out))
	copy(slot[l2.FrameHeaderLen:], out)
	s.commit(l2.FrameHeaderLen + len(out))
}

// hubArena holds what is relayed until the loop waits, or sends because it is full.
const hubArena = 160 << 10

// relay sends a frame from one peer to others, on a hub.
func (f *frames) relay(frame []byte, now boottime.Time) {
	if f.hub == nil {
		f.hub = newSealer(f.e.t, hubArena)
	}
	for _, out := range f.verdict.Out {
		peer := f.e.peer(out.Port)
		if peer == nil {
			continue
		}
		b := append(f.scratch[:0], make([]byte, l2.FrameHeaderLen+tagRoom)...)
		b = append(b, frame...)
		at := out.Rewrite.Apply(b, l2.FrameHeaderLen+tagRoom) - l2.FrameHeaderLen
		l2.PutFrameHeader(b[at:], f.verdict.Hops, len(b)-at-l2.FrameHeaderLen)
		f.scratch = f.relayTo(peer, b, at, now)
	}
}

// relayTo sends the payload b[at:] to one peer, in two parts when it is too long for one. It returns b, grown.
func (f *frames) relayTo(peer *Peer, b []byte, at int, now boottime.Time) []byte {
	limit := f.e.cutLimit()
	length := len(b) - at
	if limit == 0 || length <= limit {
		b = pad(b, at, limit)
		f.hubSend(peer, b[at:], now)
		return b
	}
	frame := b[at+l2.FrameHeaderLen:]
	cut, ok := l2.Cut(len(frame), limit)
	if !ok {
		f.e.t.drops.Add(drop.TooBig, 1)
		return b
	}
	id := peer.fragments.Reserve(1)
	for i, part := range [2][]byte{frame[:cut], frame[cut:]} {
		p := append(f.half[:0], make([]byte, l2.FragmentHeaderLen)...)
		l2.PutFragmentHeader(p, f.verdict.Hops, len(frame), id, cut, i == 1)
		f.half = pad(append(p, part...), 0, limit)
		f.hubSend(peer, f.half, now)
	}
	return b
}

func (f *frames) hubSend(peer *Peer, plaintext []byte, now boottime.Time) {
	if f.hub.full(len(plaintext)) {
		f.hub.flush(f.lane.binding.Load(), now)
	}
	f.e.t.drops.Add(f.hub.transmit(peer, plaintext, now), 1)
}

// pad pads b[at:] with zeros to a multiple of 16 bytes, but not beyond limit.
func pad(b []byte, at, limit int) []byte {
	for n := len(b) - at; n%16 != 0 && (limit == 0 || n < limit); n++ {
		b = append(b, 0)
	}
	return b
}

// likeLast reports whether the frame needs no decision of its own: the same peer, addresses, tag and type as the one
// before it in this train, which went to the TAP unchanged, and TCP inside, which no guard looks at.
func (f *frames) likeLast(from *Peer, frame []byte) bool {
	n := f.lastLen
	return n > 0 && from == f.lastPeer && len(frame) > n+20 && len(frame) <= f.e.maxFrame() &&
		bytes.Equal(frame[:n], f.lastHead[:n]) && isPlainTCP(frame, n)
}

// remember keeps the head of a frame that went to the TAP unchanged, if those after it may follow without being asked.
func (f *frames) remember(from *Peer, frame []byte) {
	n := maxHead - tagRoom
	if len(frame) > maxHead && frame[12] == 0x81 && frame[13] == 0 {
		n = maxHead
	}
	if len(frame) > n+20 && frame[0]&1 == 0 && isPlainTCP(frame, n) {
		f.lastLen, f.lastPeer = copy(f.lastHead[:n], frame), from
	}
}

// isPlainTCP reports whether an IP packet at frame[n:] is TCP without extension headers and not a later fragment, and
// no SYN, whose MSS may have to be lowered.
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

func (f *frames) forget() { f.lastLen, f.lastPeer = 0, nil }

func (f *frames) flush(now boottime.Time) {
	if f.hub != nil {
		f.hub.flush(f.lane.binding.Load(), now)
	}
	if f.parts != nil && now.Sub(f.sweptAt) > time.Second {
		f.sweptAt = now
		lost := f.parts.TakeLost(now)
		f.e.t.drops.Add(drop.ReassemblyFull, lost.Full)
		f.e.t.drops.Add(drop.ReassemblyLost, lost.Old)
	}
}

// retag gives the frame behind the virtio header of buf, which lies in mem, another VLAN tag, and returns it with its
// header moved along.
func retag(mem, buf []byte, r l2.Rewrite) []byte {
	var h offload.VirtioHeader
	h.Decode(buf)
	if h.GSOType == offload.GSONone {
		h = offload.VirtioHeader{} // Begin has completed the checksum already
	}
	grow := r.Grow()
	if h.Flags&offload.NeedsChecksum != 0 {
		h.CsumStart = uint16(int(h.CsumStart) + grow)
	}
	off := r.Apply(mem[:tagRoom+len(buf)], tagRoom+offload.VirtioHeaderLen)
	start := off - offload.VirtioHeaderLen
	h.Encode(mem[start:])
	return mem[start : tagRoom+len(buf)]
}

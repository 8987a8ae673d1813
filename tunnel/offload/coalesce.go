package offload

// Terms of this file: the *landing* is where the cipher writes the next plaintext; a *train* is a
// frame under construction, of one or more segments; the *spare* is a train's buffer that has no
// train yet.

const (
	// maxTrains is how many flows can be joined side by side. Bounded because each may hold 64 KiB:
	// four keep acknowledgements and a second and third flow from breaking a train.
	maxTrains = 4

	// maxDatagrams bounds the segments of a UDP superpacket. Linux 6.6 to 6.8 refuse more than 64
	// when written to a TUN device (UDP_MAX_SEGMENTS; 128 since 6.9).
	maxDatagrams = 64

	// maxJoined bounds the segments of a TCP superpacket, of which the kernel may have to cut each
	// one: at 2 µs each, one write then takes a millisecond at most, in which nobody else is
	// served.
	maxJoined = 512

	// minJoined is the least payload, in bytes, of a segment that is joined. Smaller ones are
	// hardly ever full segments, and the headers that joining saves are not what they cost.
	minJoined = 16

	// maxSaved is the most that a landing overwrites: prefix, link, IP and TCP headers.
	maxSaved = VirtioHeaderLen + maxLink + ipv6Header + maxTCP

	// roomLen is the buffer of a train: virtio header, link header, an IP packet of any length, and
	// the padding of a last segment that turns out not to belong.
	roomLen = VirtioHeaderLen + maxLink + maxIPLen + 2*(MaxPadding+1)
)

// MaxPlaintext is the largest n that Coalescer.Slot takes; no UDP datagram carries as much.
const MaxPlaintext = roomLen - VirtioHeaderLen

// Features says what the device accepts when written to. TSO and USO need Checksum.
type Features struct{ Checksum, TSO, USO bool }

// Coalescer joins segments that continue each other into superpackets, as the kernel's GRO does,
// and hands complete frames to a device. It belongs to one loop and does not allocate after its
// buffers exist (64 KiB for each flow joined at a time, at most five). Order within a flow is kept;
// order between flows is not.
//
// For each plaintext: Slot, then either Commit or Cancel. Flush when nothing more is to be had at
// once.
type Coalescer struct {
	link     Link
	prefix   int
	verify   bool
	features Features
	write    func(frame []byte, from uint32)
	from     uint32 // of the packets to come

	trains [maxTrains]*train // most recently used first
	open   int               // trains in use
	free   []*train          // buffers without a train, the next to use last

	into *train // where the landing is; nil when there is none
	at   int    // offset of the landing in into.buf
	size int    // of the landing
	// The landing lies over the end of into, an open train; saved holds what was there.
	borrows bool

	saved [maxSaved]byte
}

// NewCoalescer returns a Coalescer for a device of kind link. prefix is 0 or 4: the number of bytes
// before each packet in a plaintext that are not for the device. write is called with one frame, a
// virtio_net_hdr and a packet, which it borrows until it returns and may change, and with the
// origin of the packet (From); it must not call the Coalescer, save SetFeatures.
func NewCoalescer(link Link, prefix int, features Features, write func(frame []byte, from uint32)) *Coalescer {
	if prefix < 0 || prefix > VirtioHeaderLen {
		panic("tunnel/offload: a prefix has the room of the virtio header")
	}
	c := &Coalescer{link: link, prefix: prefix, write: write, free: make([]*train, 0, maxTrains+1)}
	c.SetFeatures(features)
	return c
}

// SetFeatures changes what the device accepts, for packets committed from now on. It may be called
// from write: what is already joined is still written as it is.
func (c *Coalescer) SetFeatures(features Features) {
	features.TSO = features.TSO && features.Checksum
	features.USO = features.USO && features.Checksum
	c.features = features
}

// Features returns what is in force.
func (c *Coalescer) Features() Features { return c.features }

// From says where the packets committed from now on come from, by a number of the caller's. Packets
// of different origin are never joined, so that each frame has one.
func (c *Coalescer) From(from uint32) { c.from = from }

// VerifyChecksums chooses between trusting the TCP and UDP checksums of what peers sent (false, the
// default: the kernel is told to regard them as right, as its own WireGuard does) and verifying
// each before the packet is joined or marked; a wrong one is then written alone and as it is.
func (c *Coalescer) VerifyChecksums(verify bool) { c.verify = verify }

// Slot returns room for a plaintext of n bytes, prefix and padding included. It is valid until
// Commit or Cancel, one of which must follow. It returns nil when n is negative or above
// MaxPlaintext.
//
// The room is chosen so that, if the packet continues the train last used, its payload is in its
// final place. Its headers then lie over the end of that train; what was there is kept until Commit
// or Cancel puts it back. They never lie over the train's own headers, with which the packet is
// going to be compared: a packet that repeats itself would equal what it has written there, and
// leave under the addresses of another peer.
func (c *Coalescer) Slot(n int) []byte {
	if c.into != nil {
		c.Cancel()
	}
	if n < 0 || n > MaxPlaintext {
		return nil
	}
	if c.open > 0 {
		t := c.trains[0]
		over := t.head.headers + c.prefix
		payload := n - over // padding included
		apart := t.end-over >= VirtioHeaderLen+t.head.headers
		if apart && payload > 0 && payload <= t.gso+MaxPadding && t.end+payload <= len(t.buf) &&
			t.end-VirtioHeaderLen-t.head.network+payload <= maxIPLen+MaxPadding {
			c.into, c.at, c.size, c.borrows = t, t.end-over, n, true
			copy(c.saved[:over], t.buf[c.at:])
			return t.buf[c.at : c.at+n : c.at+n]
		}
	}
	c.into, c.at, c.size, c.borrows = c.takeFree(), VirtioHeaderLen-c.prefix, n, false
	return c.into.buf[c.at : c.at+n : c.at+n]
}

// Cancel gives up the plaintext of the last Slot: it did not authenticate, or is not for the
// device. Whatever was written to the slot, the trains are as they were before. Without a slot it
// does nothing.
func (c *Coalescer) Cancel() {
	switch {
	case c.into == nil:
	case c.borrows:
		c.restore()
	default:
		c.giveFree(c.into)
	}
	c.into = nil
}

// Commit takes the first length bytes of the last Slot, prefix included and padding not, as a
// packet for the device. It joins it to its train, or writes it, and whatever of its flow came
// before it, at once. A length that leaves no packet is a Cancel.
func (c *Coalescer) Commit(length int) {
	if length <= c.prefix || length > c.size {
		c.Cancel()
		return
	}
	if c.into == nil {
		return
	}
	packet := c.into.buf[c.at+c.prefix : c.at+length]
	if c.borrows {
		if t := c.into; t.from == c.from && t.continues(packet) && c.allowed(&t.head) && (!c.verify || checksumValid(packet, &t.head)) {
			flags := t.tcpFlags(packet)
			c.restore()
			c.into = nil
			c.grow(0, len(packet)-t.head.headers, flags)
			return
		}
	}
	c.commitElsewhere(packet)
}

// Flush writes everything held, the train least recently used first. A slot not committed is
// cancelled.
func (c *Coalescer) Flush() {
	c.Cancel()
	for c.open > 0 {
		c.finish(c.open - 1)
	}
}

// commitElsewhere places a packet that does not continue the train whose end it lies over, if any.
func (c *Coalescer) commitElsewhere(packet []byte) {
	var s segment
	if c.features != (Features{}) || c.open > 0 {
		s.parse(packet, c.link)
	}
	if c.verify && s.sound && !checksumValid(packet, &s) {
		s.sound = false
		s.kind = min(s.kind, kindFlow)
	}
	if s.kind == kindJoin && !c.allowed(&s) {
		s.kind = kindFlow
	}

	// At most one train is of this flow: what does not continue it ends it.
	if s.kind >= kindFlow {
		if i := c.find(packet, &s); i >= 0 {
			t := c.trains[i]
			if s.kind == kindJoin && t.from == c.from && !(c.borrows && t == c.into) && t.continues(packet) {
				flags := t.tcpFlags(packet)
				payload := packet[s.headers:]
				copy(t.buf[t.end:], payload)
				n := len(payload)
				c.Cancel()
				c.grow(i, n, flags)
				return
			}
		}
	}
	own := c.takeOut(packet)
	packet = own.buf[VirtioHeaderLen : VirtioHeaderLen+len(packet)]
	if s.kind != kindAlone {
		for i := c.open - 1; i >= 0; i-- {
			if c.trains[i].sameFlow(packet, &s) {
				c.finish(i)
			}
		}
	}
	own.begin(packet, &s)
	own.from = c.from
	if s.kind != kindJoin || own.gso < minJoined || own.closed() {
		c.emit(own)
		c.giveFree(own)
		return
	}
	if c.open == maxTrains {
		c.finish(maxTrains - 1)
	}
	copy(c.trains[1:], c.trains[:c.open])
	c.trains[0] = own
	c.open++
}

// find returns the index of the train of packet's flow, or -1.
func (c *Coalescer) find(packet []byte, s *segment) int {
	for i := range c.open {
		if c.trains[i].sameFlow(packet, s) {
			return i
		}
	}
	return -1
}

// takeOut ends the landing: it returns a buffer of its own that begins with the packet, copied when
// it lay over a train.
func (c *Coalescer) takeOut(packet []byte) *train {
	t := c.into
	if c.borrows {
		t = c.takeFree()
		copy(t.buf[VirtioHeaderLen:], packet)
		c.restore()
	}
	c.into = nil
	return t
}

// restore puts back the bytes of a train that the landing covers.
func (c *Coalescer) restore() {
	over := c.into.head.headers + c.prefix
	copy(c.into.buf[c.at:], c.saved[:over])
	c.borrows = false
}

// grow adds n bytes of payload, already in place, to train i, and writes it when nothing can
// follow.
func (c *Coalescer) grow(i, n int, flags uint8) {
	t := c.trains[i]
	t.end += n
	t.segments++
	t.nextSeq += uint32(n)
	t.flags |= flags & (tcpFIN | tcpPSH)
	if i > 0 {
		copy(c.trains[1:i+1], c.trains[:i])
		c.trains[0] = t
	}
	if n < t.gso || t.closed() {
		c.finish(0)
	}
}

// finish writes train i and frees its buffer.
func (c *Coalescer) finish(i int) {
	t := c.trains[i]
	copy(c.trains[i:], c.trains[i+1:c.open])
	c.open--
	c.trains[c.open] = nil
	c.emit(t)
	c.giveFree(t)
}

// takeFree returns a buffer without a train. There are never more than maxTrains+1 buffers:
// maxTrains open and one for a packet that has just arrived.
func (c *Coalescer) takeFree() *train {
	if n := len(c.free); n > 0 {
		t := c.free[n-1]
		c.free = c.free[:n-1]
		return t
	}
	return &train{buf: make([]byte, roomLen)}
}

// giveFree returns a buffer; the one last used, still in the cache, is the next to be used.
func (c *Coalescer) giveFree(t *train) { c.free = append(c.free, t) }

// allowed says whether the device takes superpackets of this kind.
func (c *Coalescer) allowed(s *segment) bool {
	if s.proto == protoTCP {
		return c.features.TSO
	}
	return c.features.USO
}

// emit completes the frame of t, headers and virtio_net_hdr, and hands it to the device.
func (c *Coalescer) emit(t *train) {
	frame := t.buf[:t.end:t.end]
	packet := frame[VirtioHeaderLen:]
	var h VirtioHeader
	switch s := &t.head; {
	case t.segments > 1:
		t.close(packet)
		h.GSOSize = uint16(t.gso)
		switch {
		case s.proto == protoUDP:
			h.GSOType = GSOUDP
		case s.version == 4:
			h.GSOType = GSOTCPv4
		default:
			h.GSOType = GSOTCPv6
		}
		partialChecksum(packet, s, &h)
	case s.sound && !s.noSum && c.features.Checksum:
		partialChecksum(packet, s, &h)
	}
	h.Encode(frame)
	c.write(frame, t.from)
}

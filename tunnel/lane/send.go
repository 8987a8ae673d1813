package lane

import (
	"errors"
	"net"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/capture"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
)

// drainPackets bounds how many packets are read from the device between two superpackets, or before
// a batch of small ones is sent, so that the first packet of a burst is not delayed by those behind
// it.
const drainPackets = 64

// SendLoop carries packets from one device queue to peers: read, choose the recipients, cut,
// encrypt, send. It runs on one goroutine and waits for nothing but the device.
type SendLoop struct {
	env      *Env
	lane     *Lane
	dev      *Device
	queue    tundev.Queue
	progress *watchdog.Progress
	forward  Forwarder

	now     boottime.Time
	yield   yielder
	waiting backlog
	codel   codel // for waiting
	excess  excessBudget
	mem     []byte // the present packet: Headroom, then the read
	spare   []byte // copy of the packet if it is sent in several forms; nil until first needed
	split   offload.Splitter
	rest    offload.Rest // of the present packet
	packet  Outgoing     // present packet, as the forwarder sees it
	lose    int          // index of the segment of the present packet that is to be lost; -1: none
	mark    bool         // the present packet is to be marked as having met congestion
	class   uint8        // of the datagrams with the present packet
	out     *Batch
	to      []Recipient

	tap      capture.Writer
	captures *capture.Set // those that run while the present packet is carried; nil: none
}

// NewSendLoop returns the loop of one queue of a device, which sends through the lane's socket.
func NewSendLoop(env *Env, l *Lane, d *Device, queue int) *SendLoop {
	return newSendLoop(env, l, d, d.Queues[queue], d.Progress[queue], env.Taps.NewWriter())
}

func newSendLoop(env *Env, l *Lane, d *Device, q tundev.Queue, p *watchdog.Progress, tap capture.Writer) *SendLoop {
	o := &SendLoop{
		env: env, lane: l, dev: d, queue: q, progress: p, forward: d.NewForwarder(l, q), out: NewBatch(env, l, sendArena), tap: tap,
	}
	o.out.tap = tap
	return o
}

// Run carries packets until the device is closed or gone.
func (o *SendLoop) Run() (err error) {
	defer o.env.Taps.EndWriter(o.tap)
	for o.env.survive("send loop", func() { err = o.loop() }) {
		*o = *newSendLoop(o.env, o.lane, o.dev, o.queue, o.progress, o.tap)
	}
	return err
}

func (o *SendLoop) loop() error {
	for {
		if err := o.readAhead(); err != nil {
			o.finish()
			return err
		}
		gathered := o.out.used
		if q, index := o.waiting.turn(); q != nil {
			o.now = o.env.Clock.Now()
			if sent := o.carry(q.mem, q.n, o.codel.shed(o.now.Sub(q.since), o.now)); sent > 0 {
				o.waiting.more(index, sent)
			} else {
				o.waiting.done(index)
			}
		}
		// A superpacket that adds nothing to the batch (because it has no recipient or was staged)
		// must not delay what was gathered before, since many of them may follow one another.
		if o.waiting.count == 0 || o.out.used >= flushBytes || o.out.used <= gathered {
			o.Flush()
		}
	}
}

// finish sends what was read before the device was closed: when another process continues, its host
// is not to notice.
func (o *SendLoop) finish() {
	o.now = o.env.Clock.Now()
	for {
		q, index := o.waiting.turn()
		if q == nil {
			break
		}
		if sent := o.carry(q.mem, q.n, false); sent > 0 {
			o.waiting.more(index, sent)
		} else {
			o.waiting.done(index)
		}
	}
	o.Flush()
}

// readAhead reads what the device has: small packets are encrypted at once, unless their flow
// already waits; superpackets join the backlog. It blocks if nothing waits.
func (o *SendLoop) readAhead() error {
	for range drainPackets {
		q := o.waiting.free()
		if q == nil {
			return nil
		}
		block := o.waiting.count == 0 && o.out.empty()
		if block {
			o.yield.beforeWait(o.now)
			o.progress.Idle()
		}
		n, err := o.queue.Read(q.mem[Headroom:Headroom+tundev.MaxRead], block)
		o.progress.Busy()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || errors.Is(err, tundev.ErrGone) {
				return err
			}
			o.drop(drop.BadDevicePacket, 1)
			o.Flush()
			o.env.pause()
			return nil
		}
		if n == 0 {
			return nil
		}
		if block {
			o.now = o.env.Clock.Now()
		}
		q.n, q.since = n, o.now
		if n < sparseBytes && o.waiting.count == 0 {
			// A packet this short does not have enough segments for a second part.
			o.carry(q.mem, n, false)
			continue
		}
		q.flow = offload.Flow(q.read()[offload.VirtioHeaderLen:], o.dev.Link)
		if n < sparseBytes && !o.waiting.holds(q.flow) {
			o.carry(q.mem, n, false)
			continue
		}
		o.waiting.push()
	}
	return nil
}

// drop counts n dropped packets of the device, for no particular peer.
func (o *SendLoop) drop(reason drop.Reason, n uint64) {
	o.env.Drops.Add(reason, n)
	o.dev.CountDrop(reason, n)
}

// dropFor counts n dropped packets of the device for one peer.
func (o *SendLoop) dropFor(p *peer.Peer, reason drop.Reason, n uint64) {
	o.drop(reason, n)
	p.CountDrop(reason, n)
}

// Flush sends what was gathered.
func (o *SendLoop) Flush() { o.out.Flush(o.now) }

// Carry encrypts the result of one read of n bytes, which lies in mem behind Headroom, for its
// recipients, as if the device had just been read at now. It only gathers; Flush sends. Run does
// both; Carry exists to measure and test one step.
func (o *SendLoop) Carry(mem []byte, n int, now boottime.Time) {
	o.now = now
	for {
		sent := o.carry(mem, n, false)
		if sent == 0 {
			return
		}
		mem, n = mem[sent:], n-sent
	}
}

// carry is Carry at o.now, for at most offload.PartSegments segments. If there are more, it returns
// by how many bytes the remainder begins later in mem and is shorter, and 0 otherwise. With shed,
// it marks the packet as having met congestion, or drops one of its segments; a TCP sender takes
// either as the sign of a standing queue (RFC 3168, RFC 8289).
func (o *SendLoop) carry(mem []byte, n int, shed bool) int {
	o.mem = mem
	o.captures = o.env.Taps.Load()
	buf := mem[Headroom : Headroom+n]
	if o.env.Link.Down() { // what was read had been queued before
		o.dropRead(buf, drop.DeviceDown)
		return 0
	}
	reason := o.split.Begin(buf, o.dev.Link, o.dev.Prefix, o.dev.padLimitOf(buf))
	if reason != drop.None {
		o.dropRead(buf, reason)
		return 0
	}
	if n := o.split.Excess(); n > 0 && !o.excess.take(n, o.now) {
		o.dropRead(buf, drop.TinySegments)
		return 0
	}
	o.split.Part(&o.rest)
	o.lose = -1
	o.mark = shed && o.split.IsTCP() && o.split.MarkCE()
	if shed && o.split.IsTCP() && !o.mark {
		o.lose = o.split.Count() / 2
	}
	p := &o.packet // not a local variable: that would escape to the heap through the interface
	*p = Outgoing{Packet: buf[offload.VirtioHeaderLen:], Segments: o.split.Count(), Longest: o.split.Longest(), Now: o.now}
	o.dev.txPackets.Add(uint64(p.Segments))
	if n := o.rest.Len(); n > 0 {
		o.dev.txBytes.Add(uint64(n)) // the headers are counted with the last part
	} else {
		o.dev.txBytes.Add(uint64(len(p.Packet)))
	}
	if o.to, reason = o.forward.Route(o.to[:0], p); reason != drop.None {
		o.env.Drops.Add(reason, uint64(p.Segments))
		o.captureLost(nil, reason)
	}
	o.class = o.env.DSCP.of(ipIn(p.Packet, o.dev.Link))
	o.refuseLoops(p)
	switch {
	case len(o.to) == 0:
	case sameForm(o.to):
		o.send(buf, o.to)
	default:
		o.sendForms(buf)
	}
	clear(o.to) // so that a loop that waits keeps no old keys or removed peers alive
	o.captures = nil
	if o.rest.Len() > 0 {
		o.rest.Put(buf)
	}
	return o.rest.Len()
}

// sameForm reports whether all recipients get the packet in the same form. At layer 3 they always
// do.
func sameForm(to []Recipient) bool {
	for i := range to {
		if to[i].Form != to[0].Form {
			return false
		}
	}
	return true
}

// sendForms sends a packet whose recipients get it in different forms: once for each form, from a
// copy, because cutting destroys the packet.
func (o *SendLoop) sendForms(buf []byte) {
	o.spare = append(o.spare[:0], buf...)
	for rest := o.to; len(rest) > 0; {
		n := 1
		for i := 1; i < len(rest); i++ { // move recipients with the first one's form to the front
			if rest[i].Form == rest[0].Form {
				rest[n], rest[i] = rest[i], rest[n]
				n++
			}
		}
		copy(buf, o.spare)
		o.send(buf, rest[:n])
		rest = rest[n:]
	}
}

// send cuts buf and encrypts its segments for recipients that get it in one form.
func (o *SendLoop) send(buf []byte, to []Recipient) {
	if to[0].Form != 0 || len(to) != len(o.to) {
		buf = o.forward.Reshape(o.mem, buf, to[0].Form)
		if reason := o.split.Begin(buf, o.dev.Link, o.dev.Prefix, o.dev.padLimitOf(buf)); reason != drop.None {
			o.drop(reason, 1)
			return
		}
		o.split.Part(nil)
		if o.mark {
			o.split.MarkCE()
		}
	}
	count := o.split.Count()
	to = o.prepare(to, count, o.split.Longest()+o.dev.Prefix)
	if len(to) == 0 {
		return
	}
	if o.captures != nil {
		o.captureSent(to)
	}
	for i := 0; ; i++ {
		padded, length := o.split.Next()
		if padded == nil {
			return
		}
		if i == o.lose {
			o.drop(drop.StandingQueue, 1)
			o.captureSegment(nil, padded[:length], drop.StandingQueue)
			continue
		}
		o.segment(to, padded, length)
	}
}

// prepare finds the session of each recipient, reserves its counters, and requests a newer session
// when that is due. It returns the remaining recipients.
func (o *SendLoop) prepare(to []Recipient, count, longest int) []Recipient {
	kept := to[:0]
	for _, r := range to {
		if r.Peer.Endpoint() == nil {
			o.dropFor(r.Peer, drop.NoEndpoint, uint64(count))
			o.captureLost(r.Peer, drop.NoEndpoint)
			continue
		}
		kp := r.Peer.Sending(o.laneFor(r.Peer), o.now)
		if kp != nil && r.Peer.Staged.Len() != 0 {
			o.Flush()
			if !o.out.SendStaged(r.Peer, o.now) {
				kp = nil // behind what another goroutine is sending
			}
		}
		datagrams := count
		if r.Limit > 0 && longest > r.Limit {
			datagrams = 2 * count
		}
		if kp != nil {
			if first, ok := kp.Session.Reserve(datagrams); ok {
				if kp.RenewOnSend(first, o.now) {
					o.env.WantHandshake(r.Peer, o.now)
				}
				r.keypair, r.counter = kp, first
			}
		}
		kept = append(kept, r)
	}
	return kept
}

// laneFor returns the lane whose session the present packet leaves in for p: this one, or that of
// its flow.
func (o *SendLoop) laneFor(p *peer.Peer) int {
	if !p.Leads() {
		return o.lane.ID
	}
	return o.env.Flows.lane(o.packet.Packet, o.dev.Link, o.lane.ID)
}

// segment encrypts one segment for every recipient. A recipient that fails never stops the others.
func (o *SendLoop) segment(to []Recipient, padded []byte, length int) {
	for i := range to {
		r := &to[i]
		if r.Limit == 0 || length <= r.Limit {
			if r.Limit > 0 && len(padded) > r.Limit {
				padded = padded[:r.Limit] // less padding, rather than more than the path carries
			}
			o.plaintext(r, padded)
			continue
		}
		first, second, ok := o.forward.Cut(r, padded[:length])
		if !ok {
			o.dropFor(r.Peer, drop.TooBig, 1)
			o.captureSegment(r.Peer, padded[:length], drop.TooBig)
			continue
		}
		o.plaintext(r, first)
		o.plaintext(r, second)
	}
}

// plaintext encrypts or stages the content of one datagram.
func (o *SendLoop) plaintext(r *Recipient, plaintext []byte) {
	if r.keypair == nil {
		o.env.Stage(r.Peer, plaintext, o.now)
		return
	}
	if o.out.full(len(plaintext)) {
		o.Flush()
	}
	ep := r.Peer.Endpoint()
	if ep == nil {
		o.dropFor(r.Peer, drop.NoEndpoint, 1)
		return
	}
	o.out.seal(r.Peer, ep, r.keypair.Session, r.counter, plaintext, o.class)
	r.counter++
}

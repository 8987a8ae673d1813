package tunnel

import (
	"errors"
	"net"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// drainPackets bounds how many packets are read from the device between two superpackets, or before a batch of small
// ones is sent, so that the first one of a burst is not kept waiting by those behind it.
const drainPackets = 64

// outbound carries packets from one device queue to peers: read, choose the receivers, cut, seal, send. It runs on
// one goroutine and waits for nothing but the device.
type outbound struct {
	t       *Tunnel
	lane    *lane
	dev     *device
	device  tundev.Queue
	forward forwarder
	pulse   *pulse

	now      boottime.Time
	yield    yielder
	waiting  backlog
	queue    codel  // over waiting
	shed     bool   // lose one segment of the superpacket in hand
	mem      []byte // of the packet in hand: tagRoom, then the read
	spare    []byte // a copy of it, when it goes out in several forms; nil until that happens
	split    offload.Splitter
	packetIn outgoing // the packet in hand, as the forwarder sees it
	out      *sealer
	to       []receiver
	parts    [2][]byte // scratch for a frame cut in two
}

// tagRoom is what a VLAN tag put into a frame needs before it.
const tagRoom = 4

func newOutbound(t *Tunnel, l *lane, d *device, q tundev.Queue, p *pulse) *outbound {
	return &outbound{t: t, lane: l, dev: d, device: q, pulse: p, forward: d.newForwarder(l, q), out: newSealer(t, arenaBytes)}
}

// run carries packets until the device is closed or gone.
func (o *outbound) run() (err error) {
	for o.t.survive("send loop", func() { err = o.loop() }) {
		*o = *newOutbound(o.t, o.lane, o.dev, o.device, o.pulse)
	}
	return err
}

func (o *outbound) loop() error {
	for {
		if err := o.readAhead(); err != nil {
			o.flush(o.now)
			return err
		}
		gathered := o.out.used
		if q := o.waiting.pop(); q != nil {
			o.now = o.t.clock.Now()
			o.shed = o.queue.shed(o.now.Sub(q.since), o.now)
			o.packet(q.mem, q.n)
			o.shed = false
		}
		// A superpacket that gathers nothing (nobody is to get it, or it was staged) does not keep waiting what was
		// gathered before: there may be no end of such.
		if o.waiting.count == 0 || o.out.used >= flushBytes || o.out.used <= gathered {
			o.flush(o.now)
		}
	}
}

// readAhead reads what the device has: small packets are sealed at once, unless their flow waits already; superpackets
// join the backlog. It blocks when nothing waits.
func (o *outbound) readAhead() error {
	for range drainPackets {
		q := o.waiting.free()
		if q == nil {
			return nil
		}
		block := o.waiting.count == 0 && o.out.empty()
		if block {
			o.yield.beforeWait(o.now)
			o.pulse.rest()
		}
		n, err := o.device.Read(q.mem[tagRoom:tagRoom+tundev.MaxRead], block)
		o.pulse.wake()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || errors.Is(err, tundev.ErrGone) {
				return err
			}
			o.drop(drop.BadDevicePacket, 1)
			o.flush(o.now)
			o.lane.pause()
			return nil
		}
		if n == 0 {
			return nil
		}
		if block {
			o.now = o.t.clock.Now()
		}
		q.n, q.since = n, o.now
		if n < sparseBytes && o.waiting.count == 0 {
			o.packet(q.mem, n)
			continue
		}
		q.flow = offload.Flow(q.read()[offload.VirtioHeaderLen:], o.dev.link)
		if n < sparseBytes && !o.waiting.holds(q.flow) {
			o.packet(q.mem, n)
			continue
		}
		o.waiting.push()
	}
	return nil
}

// drop counts n packets of the device that were dropped.
func (o *outbound) drop(reason drop.Reason, n uint64) {
	o.t.drops.Add(reason, n)
	o.dev.drops.Add(reason, n)
}

func (o *outbound) flush(now boottime.Time) { o.out.flush(o.lane.binding.Load(), now) }

// packet sends what one read of n bytes gave, a packet or a superpacket, to its receivers. It lies in mem behind tagRoom.
func (o *outbound) packet(mem []byte, n int) {
	o.mem = mem
	buf, now := mem[tagRoom:tagRoom+n], o.now
	if o.t.isDown() { // what was read had been queued before
		o.drop(drop.DeviceDown, 1)
		return
	}
	reason := o.split.Begin(buf, o.dev.link, o.dev.prefix, o.dev.padLimit(buf))
	if reason != drop.None {
		o.drop(reason, 1)
		return
	}
	o.shed = o.shed && o.split.IsTCP() && !o.split.MarkCE()
	p := &o.packetIn // not a local variable: that would escape to the heap through the interface
	*p = outgoing{buf[offload.VirtioHeaderLen:], o.split.Count(), o.split.Longest(), now}
	o.dev.txPackets.Add(uint64(p.count))
	o.dev.txBytes.Add(uint64(len(p.packet)))
	if o.to, reason = o.forward.route(o.to[:0], p); reason != drop.None {
		o.drop(reason, uint64(p.count))
	}
	o.refuseEchoes(p)
	switch {
	case len(o.to) == 0:
	case sameForm(o.to):
		o.send(buf, o.to, now)
	default:
		o.sendForms(buf, now)
	}
	clear(o.to) // while we wait for the next, nothing here keeps old keys or removed peers alive
}

// sameForm reports whether all receivers get the frame with the same tag. At layer 3 they always do.
func sameForm(to []receiver) bool {
	for i := range to {
		if to[i].rewrite != to[0].rewrite {
			return false
		}
	}
	return true
}

// sendForms sends a frame that its receivers get with different VLAN tags: once for each form, from a copy, because
// cutting destroys it.
func (o *outbound) sendForms(buf []byte, now boottime.Time) {
	o.spare = append(o.spare[:0], buf...)
	for rest := o.to; len(rest) > 0; {
		n := 1
		for i := 1; i < len(rest); i++ { // bring those of the first one's form to the front
			if rest[i].rewrite == rest[0].rewrite {
				rest[n], rest[i] = rest[i], rest[n]
				n++
			}
		}
		copy(buf, o.spare)
		o.send(buf, rest[:n], now)
		rest = rest[n:]
	}
}

// send cuts buf and seals its segments for receivers that get it in one form.
func (o *outbound) send(buf []byte, to []receiver, now boottime.Time) {
	if to[0].rewrite != (l2.Rewrite{}) || len(to) != len(o.to) {
		buf = retag(o.mem, buf, to[0].rewrite)
		if reason := o.split.Begin(buf, o.dev.link, o.dev.prefix, o.dev.padLimit(buf)); reason != drop.None {
			o.drop(reason, 1)
			return
		}
	}
	count := o.split.Count()
	to = o.prepare(to, count, o.split.Longest()+o.dev.prefix, now)
	if len(to) == 0 {
		return
	}
	for i := range count {
		padded, length := o.split.Next()
		if o.shed && i == count/2 {
			o.drop(drop.StandingQueue, 1)
			continue
		}
		o.segment(to, padded, length, now)
	}
}

// prepare finds the session of each receiver, reserves its counters and asks for a newer session when it is time. It
// returns the receivers that are left.
func (o *outbound) prepare(to []receiver, count, longest int, now boottime.Time) []receiver {
	kept := to[:0]
	for _, r := range to {
		sl, _, reason := o.out.ready(r.peer, now)
		if reason != drop.None {
			o.drop(reason, uint64(count))
			continue
		}
		if sl != nil && r.peer.staged.count.Load() != 0 {
			o.flush(now)
			o.out.sendStaged(r.peer, o.lane.binding.Load(), now)
		}
		datagrams := count
		if r.limit > 0 && longest > r.limit {
			datagrams = 2 * count
			r.part = r.peer.fragments.Reserve(count)
		}
		if sl != nil {
			if first, ok := sl.session.Reserve(datagrams); ok {
				o.out.renew(r.peer, sl, first, now)
				r.slot, r.next = sl, first
			}
		}
		kept = append(kept, r)
	}
	return kept
}

// segment seals one segment for every receiver. A receiver that fails never stops the others.
func (o *outbound) segment(to []receiver, padded []byte, length int, now boottime.Time) {
	for i := range to {
		r := &to[i]
		if r.limit > 0 && length > r.limit {
			o.fragments(r, padded[:length], now)
		} else {
			o.plaintext(r, padded, now)
		}
	}
}

// plaintext seals or stages what goes into one datagram.
func (o *outbound) plaintext(r *receiver, plaintext []byte, now boottime.Time) {
	if r.slot == nil {
		o.t.stage(r.peer, plaintext, now)
		return
	}
	if o.out.full(len(plaintext)) {
		o.flush(now)
	}
	ep := r.peer.endpoint.Load()
	if ep == nil {
		o.drop(drop.NoEndpoint, 1)
		return
	}
	o.out.seal(r.peer, ep, r.slot.session, r.next, plaintext)
	r.next++
}

// fragments sends a frame that is too long for one datagram as two of equal length.
func (o *outbound) fragments(r *receiver, plaintext []byte, now boottime.Time) {
	frame := plaintext[o.dev.prefix:]
	cut, ok := l2.Cut(len(frame), r.limit)
	if !ok {
		o.drop(drop.TooBig, 1)
		return
	}
	for i, part := range [2][]byte{frame[:cut], frame[cut:]} {
		b := append(o.parts[i][:0], make([]byte, l2.FragmentHeaderLen)...)
		l2.PutFragmentHeader(b, 0, len(frame), r.part, cut, i == 1)
		b = append(b, part...)
		for len(b) < l2.FragmentHeaderLen+cut || len(b)%16 != 0 && len(b) < r.limit {
			b = append(b, 0)
		}
		o.parts[i] = b
		o.plaintext(r, b, now)
	}
	r.part++
}

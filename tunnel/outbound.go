package tunnel

import (
	"errors"
	"net"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/offload"
	"tund/tunnel/tundev"
)

// drainPackets bounds how many packets are gathered from the device before they are sent, so that the first one
// of a burst is not kept waiting by those behind it.
const drainPackets = 64

// outbound carries packets from one device queue to peers: read, choose the receivers, cut, seal, send. It runs on
// one goroutine and waits for nothing but the device.
type outbound struct {
	t     *Tunnel
	lane  *lane
	dev   *device
	queue tundev.Queue

	buf     []byte
	split   offload.Splitter
	forward forwarder
	out     *sealer
	to      []receiver
}

// receiver is a peer that gets the packet in hand, and how.
type receiver struct {
	peer *Peer
	slot *slot // nil: staged
	next uint64
}

func newOutbound(t *Tunnel, l *lane, d *device, q tundev.Queue) *outbound {
	return &outbound{
		t: t, lane: l, dev: d, queue: q, forward: d.newForwarder(),
		buf: make([]byte, tundev.MaxRead, tundev.MaxRead+offload.MaxPadding), out: newSealer(t, arenaBytes),
	}
}

// run carries packets until the device is closed or gone.
func (o *outbound) run() (err error) {
	for o.t.survive("send loop", func() { err = o.loop() }) {
		*o = *newOutbound(o.t, o.lane, o.dev, o.queue)
	}
	return err
}

func (o *outbound) loop() error {
	wait, drained := true, 0
	var now boottime.Time
	for {
		n, err := o.queue.Read(o.buf, wait)
		if err != nil {
			o.flush(now)
			if errors.Is(err, net.ErrClosed) || errors.Is(err, tundev.ErrGone) {
				return err
			}
			o.t.drops.Add(drop.BadDevicePacket, 1)
			wait = true
			continue
		}
		if n > 0 {
			if wait {
				now, drained = o.t.clock.Now(), 0
			}
			o.packet(o.buf[:n], now)
			drained++
		}
		wait = n == 0 || o.out.used >= flushBytes || drained >= drainPackets
		if wait {
			o.flush(now)
		}
	}
}

func (o *outbound) flush(now boottime.Time) { o.out.flush(o.lane.binding.Load(), now) }

// packet sends what one read gave, a packet or a superpacket, to its receivers.
func (o *outbound) packet(buf []byte, now boottime.Time) {
	reason := o.split.Begin(buf, o.dev.link, o.dev.prefix, int(o.dev.mtu.Load()))
	if reason != drop.None {
		o.t.drops.Add(reason, 1)
		return
	}
	count := o.split.Count()
	o.dev.txPackets.Add(uint64(count))
	o.dev.txBytes.Add(uint64(len(buf) - offload.VirtioHeaderLen))
	o.to, reason = o.forward.route(o.to[:0], buf[offload.VirtioHeaderLen:], count, now)
	if reason != drop.None {
		o.t.drops.Add(reason, uint64(count))
	}
	if len(o.to) == 0 {
		return
	}
	o.prepare(count, now)
	for range count {
		padded, _ := o.split.Next()
		o.segment(padded, now)
	}
}

// prepare finds the session of each receiver, reserves its counters and asks for a newer session when it is time.
func (o *outbound) prepare(count int, now boottime.Time) {
	kept := o.to[:0]
	for _, r := range o.to {
		sl, _, reason := o.out.ready(r.peer, now)
		if reason != drop.None {
			o.t.drops.Add(reason, uint64(count))
			continue
		}
		if sl != nil && r.peer.staged.count.Load() != 0 {
			o.flush(now)
			o.out.sendStaged(r.peer, o.lane.binding.Load(), now)
		}
		if sl != nil {
			first, ok := sl.session.Reserve(count)
			if ok {
				o.out.renew(r.peer, sl, first, now)
				r.slot, r.next = sl, first
			}
		}
		kept = append(kept, r)
	}
	o.to = kept
}

// segment seals one segment for every receiver. A receiver that fails never stops the others.
func (o *outbound) segment(plaintext []byte, now boottime.Time) {
	for i := range o.to {
		r := &o.to[i]
		if r.slot == nil {
			o.t.stage(r.peer, plaintext, now)
			continue
		}
		if o.out.full(len(plaintext)) {
			o.flush(now)
		}
		ep := r.peer.endpoint.Load()
		if ep == nil {
			o.t.drops.Add(drop.NoEndpoint, 1)
			continue
		}
		o.out.seal(r.peer, ep, r.slot.session, r.next, plaintext)
		r.next++
	}
}

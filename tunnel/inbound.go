package tunnel

import (
	"errors"
	"net"
	"time"

	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/offload"
	"tund/tunnel/protocol"
	"tund/tunnel/udp"
)

// Bounds of one turn of the receive loop.
const (
	// trainSlots is the number of trains one receive call takes. Two hold a whole superpacket of the sender, which may
	// end in the middle of the second; the others serve bursts of small datagrams, which arrive one by one.
	trainSlots = 8
	// trainBytes is the largest train: a UDP payload.
	trainBytes = 65536
	// maxTurns is how many receives in a row may leave superpackets unfinished. It bounds the wait of the last
	// packet of a flow while others keep the socket busy.
	maxTurns = 4
)

// inbound carries datagrams from one socket to the devices: receive, demultiplex, open, admit, join, write. It runs
// on one goroutine and waits for nothing but the socket.
type inbound struct {
	t    *Tunnel
	lane *lane

	trains []udp.Train
	sinks  [linkCount]*sink // by offload.Link; nil where there is no such device
	nonce  session.Scratch
	mac1   *noise.MAC1Checker
	mac1Of *noise.Identity
	now    boottime.Time
	yield  yielder

	car car
}

// car is the part of a train that belongs to one session: consecutive datagrams with one receiver index. What they
// mean for the peer is noted once, at the end.
type car struct {
	slot   *slot
	index  uint32
	from   *udp.Endpoint
	locked bool

	authenticated, data bool
	newest              bool // holds the newest message of the session so far
	packets, bytes      uint64
}

func newInbound(t *Tunnel, l *lane) *inbound {
	in := &inbound{t: t, lane: l, trains: make([]udp.Train, trainSlots)}
	room := make([]byte, trainSlots*trainBytes)
	for i := range in.trains {
		in.trains[i].Buf, room = room[:trainBytes:trainBytes], room[trainBytes:]
	}
	for _, d := range t.devices {
		in.sinks[d.link] = newSink(t, l, d, d.queues[l.id%len(d.queues)])
	}
	return in
}

// run carries datagrams until the tunnel is closed. Nothing else ends it: an error of the socket is counted, and a
// socket that was replaced is followed.
func (in *inbound) run() {
	for in.t.survive("receive loop", in.loop) {
		if in.car.locked {
			in.car.slot.session.UnlockReceive()
		}
		*in = *newInbound(in.t, in.lane)
	}
}

func (in *inbound) loop() {
	wait, turns := true, 0
	b := in.lane.binding.Load()
	for {
		if wait {
			in.yield.beforeWait(in.now)
			in.lane.pulse.rest()
		}
		n, err := b.conn.Receive(in.trains, wait)
		in.lane.pulse.wake()
		if err != nil {
			in.flush()
			if b = in.lane.rebound(b, err); b == nil {
				return
			}
			continue
		}
		if n == 0 {
			in.flush()
			wait, turns = true, 0
			continue
		}
		in.now = in.t.clock.Now()
		for i := range n {
			in.train(&in.trains[i])
		}
		wait = false
		if turns++; turns >= maxTurns {
			in.flush()
			turns = 0
		}
	}
}

// rebound decides what follows an error of the socket: the socket that replaced it, the same one again, or nil when
// the tunnel is closed.
func (l *lane) rebound(old *binding, err error) *binding {
	if !errors.Is(err, net.ErrClosed) {
		l.t.drops.Add(drop.ReceiveError, 1)
		l.pause()
		return l.binding.Load()
	}
	for {
		b := l.binding.Load()
		if l.t.closed.Load() {
			return nil
		}
		if b != old {
			return b
		}
		select {
		case <-l.t.stop:
			return nil
		case <-l.reboundC:
		}
	}
}

// pause keeps a socket or device that fails without end from burning a core.
func (l *lane) pause() {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-l.t.stop:
	case <-timer.C:
	}
}

func (in *inbound) flush() {
	for _, s := range in.sinks {
		if s != nil {
			s.forward.flush(in.now)
			s.flush()
		}
	}
}

// train handles one received train of datagrams.
func (in *inbound) train(tr *udp.Train) {
	if tr.N == 0 { // an empty datagram, or one that was cut
		in.t.drops.Add(drop.Malformed, 1)
		return
	}
	size := tr.Segment
	if size <= 0 {
		size = tr.N
	}
	for off := 0; off < tr.N; off += size {
		in.datagram(tr.Buf[off:min(off+size, tr.N)], &tr.From)
	}
	in.uncouple()
	for _, s := range in.sinks {
		if s != nil {
			s.forward.forget()
		}
	}
}

func (in *inbound) datagram(d []byte, from *udp.Endpoint) {
	kind, ok := wire.Kind(d)
	if !ok {
		in.t.drops.Add(drop.Malformed, 1)
		return
	}
	if kind != wire.TypeTransport {
		in.uncouple()
		in.handshake(kind, d, from)
		return
	}
	if index := wire.TransportReceiver(d); in.car.slot == nil || index != in.car.index {
		in.uncouple()
		if !in.couple(index, from) {
			in.t.drops.Add(drop.UnknownIndex, 1)
			return
		}
	}
	if reason := in.transport(d); reason != drop.None {
		in.t.drops.Add(reason, 1)
	}
}

// couple begins a car for the session of a local index.
func (in *inbound) couple(index uint32, from *udp.Endpoint) bool {
	owner, ok := in.t.index.get(index)
	if !ok || owner.slot == nil {
		return false
	}
	in.car = car{slot: owner.slot, index: index, from: from, locked: true}
	owner.slot.session.LockReceive()
	return true
}

// uncouple ends the car: the peer learns what came.
func (in *inbound) uncouple() {
	c := &in.car
	if c.slot == nil {
		return
	}
	if c.locked {
		c.slot.session.UnlockReceive()
		c.locked = false
	}
	s, p := c.slot, c.slot.peer
	c.slot = nil
	if !c.authenticated {
		return
	}
	p.rxBytes.Add(c.bytes)
	p.rxPackets.Add(c.packets)
	p.lastReceived.Store(int64(in.now))
	s.heardAt.Store(int64(in.now))
	cur := p.current.Load()
	p.timers.AuthenticatedReceived(in.now)
	if c.data {
		p.timers.DataReceived(in.now)
	}
	in.t.armed(p)
	if cur == s && s.session.Initiator() && in.now.Sub(s.established) >= protocol.RekeyBeforeReject && p.lastMinute.CompareAndSwap(false, true) {
		in.t.wantHandshake(p, in.now)
	}
}

// roam moves the peer to where the car in hand comes from, which holds the newest message of its session. Like confirm
// it comes before anything of the car is delivered: the host's answer goes where the question came from.
func (in *inbound) roam() {
	s, p := in.car.slot, in.car.slot.peer
	cur := p.current.Load()
	if (cur == s || cur != nil && cur.heardAt.Load() == 0) && p.setEndpoint(*in.car.from) {
		in.t.roamedTo(p, in.car.from)
	}
}

// confirm makes the session of the car in hand current when it was the next one, and sends what waited for it. It
// comes before anything of the car is delivered: the host answers the first packet while the others are being opened,
// and an answer without a session would begin another handshake.
func (in *inbound) confirm() {
	c, s := &in.car, in.car.slot
	if s.peer.current.Load() == s {
		return
	}
	s.session.UnlockReceive() // Peer.mu comes before it
	c.locked = false
	if s.peer.confirm(in.t, s) {
		in.t.sessionUp(s.peer)
	}
	s.session.LockReceive()
	c.locked = true
}

// transport opens one transport message of the car in hand and delivers what is in it. The order is that of the
// whitepaper §5.4.6: nothing changes before the tag has verified and the counter is fresh.
func (in *inbound) transport(d []byte) drop.Reason {
	c := &in.car
	counter := wire.TransportCounter(d)
	if !c.slot.usable(in.now) || counter >= session.RejectAfterMessages {
		return drop.Expired
	}
	sink := in.sinks[c.slot.lastLink.Load()]
	if sink == nil {
		sink = in.anySink()
	}
	dst := sink.join.Slot(len(d) - wire.TransportOverhead)
	n, ok := c.slot.session.Open(dst, d, &in.nonce)
	if !ok {
		sink.join.Cancel()
		return drop.BadTag
	}
	if !c.slot.session.Accept(counter) {
		sink.join.Cancel()
		return drop.Replay
	}
	if !c.authenticated {
		c.authenticated = true
		in.confirm()
	}
	if !c.newest && counter == c.slot.session.Highest() {
		c.newest = true
		in.roam()
	}
	c.packets++
	c.bytes += uint64(len(d))
	if n == 0 { // a keepalive
		sink.join.Cancel()
		return drop.None
	}
	c.data = true
	return in.deliver(sink, dst[:n])
}

// deliver hands a plaintext, opened into the room of sink, to the device it is for.
func (in *inbound) deliver(s *sink, plaintext []byte) drop.Reason {
	link, ok := linkOf(plaintext[0])
	if !ok {
		reason := in.t.control(in.car.slot.peer, plaintext)
		s.join.Cancel() // puts back what the plaintext was opened over: it is gone now
		return reason
	}
	want := in.sinks[link]
	if want == nil {
		s.join.Cancel()
		return drop.NoDevice
	}
	if want != s { // it was opened where the last one went; move it
		dst := want.join.Slot(len(plaintext))
		copy(dst, plaintext)
		s.join.Cancel()
		s, plaintext = want, dst[:len(plaintext)]
		in.car.slot.lastLink.Store(uint32(link))
	}
	return s.forward.deliver(s, in.car.slot.peer, plaintext, in.now)
}

func (in *inbound) anySink() *sink {
	for _, s := range in.sinks {
		if s != nil {
			return s
		}
	}
	panic("tunnel: no device") // New refuses a tunnel without one
}

// linkOf tells the device an inner payload is for by its first nibble (docs/protocol.md).
func linkOf(first byte) (offload.Link, bool) {
	switch first >> 4 {
	case 4, 6:
		return offload.IP, true
	case 1:
		return offload.Ethernet, true
	}
	return 0, false
}

// handshake checks what costs little of a handshake message, and queues it for the slow plane. Garbage ends here:
// it never fills the queue, so it cannot make us look under load (field notes R-02).
func (in *inbound) handshake(kind byte, d []byte, from *udp.Endpoint) {
	if in.t.isDown() {
		in.t.drops.Add(drop.DeviceDown, 1)
		return
	}
	id := in.t.identity.Load()
	if in.mac1Of != id {
		in.mac1, in.mac1Of = noise.NewMAC1Checker(id), id
	}
	reason := drop.None
	switch kind {
	case wire.TypeInitiation:
		if !in.mac1.Valid(d) {
			reason = drop.BadMAC1
			in.t.explain.wrongKey(in.now, from.Addr)
		}
	case wire.TypeResponse:
		if !in.t.awaited(wire.ResponseReceiver(d)) {
			reason = drop.UnknownIndex
		} else if !in.mac1.Valid(d) {
			reason = drop.BadMAC1
		}
	case wire.TypeCookieReply:
		if !in.t.mayAnswer(wire.CookieReplyReceiver(d), in.now) {
			reason = drop.UnknownIndex
		}
	}
	if reason == drop.None {
		reason = in.t.handshakes.put(kind, d, *from, in.now)
	}
	in.t.drops.Add(reason, 1)
}

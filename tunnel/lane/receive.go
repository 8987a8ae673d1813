package lane

import (
	"errors"
	"net"

	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/capture"
	"tund/tunnel/offload"
	"tund/tunnel/udp"
)

// Bounds on one turn of the receive loop.
const (
	// trainsPerReceive is the number of trains that one receive call takes. Two hold a whole
	// superpacket of the sender, which may end in the middle of the second; the others serve bursts
	// of small datagrams, which arrive one by one.
	trainsPerReceive = 8
	// trainBytes is the size of the largest train: a UDP payload.
	trainBytes = 65536
	// maxTurns is how many receives in a row may leave superpackets unfinished. It limits how long
	// the last packet of a flow waits while others keep the socket busy.
	maxTurns = 4
)

// ReceiveLoop carries datagrams from one socket to the devices: receive, demultiplex, decrypt,
// admit, join, write. It runs on one goroutine and waits for nothing but the socket.
type ReceiveLoop struct {
	env     *Env
	lane    *Lane
	socket  *binding
	devices []*Device

	trains  []udp.Train
	writers [linkCount]*deviceWriter // by offload.Link; nil if there is no such device
	shakes  Handshakes
	nonce   session.Scratch
	now     boottime.Time
	yield   yielder
	run     sessionRun
	// The present train met congestion on its way.
	congested bool

	tap      capture.Writer
	captures *capture.Set // those that run while the present train is handled; nil: none
	inspects bool         // the packets of the present train go through inspect
}

// NewReceiveLoop returns the loop of the socket that the lane has now, which writes to the given
// devices: at least one, and at most one of each kind.
func NewReceiveLoop(env *Env, l *Lane, devices []*Device) *ReceiveLoop {
	return newReceiveLoop(env, l, l.binding.Load(), devices, env.Taps.NewWriter())
}

func newReceiveLoop(env *Env, l *Lane, socket *binding, devices []*Device, tap capture.Writer) *ReceiveLoop {
	in := &ReceiveLoop{
		env: env, lane: l, socket: socket, devices: devices, trains: make([]udp.Train, trainsPerReceive), shakes: env.NewHandshakes(), tap: tap,
	}
	room := make([]byte, trainsPerReceive*trainBytes)
	for i := range in.trains {
		in.trains[i].Buf, room = room[:trainBytes:trainBytes], room[trainBytes:]
	}
	for _, d := range devices {
		in.writers[d.Link] = newDeviceWriter(env, l, d, tap)
	}
	return in
}

// Run carries datagrams until the socket is closed. Nothing else ends it: an error of the socket is
// counted.
func (in *ReceiveLoop) Run() {
	defer in.env.Taps.EndWriter(in.tap)
	for in.env.survive("receive loop", in.loop) {
		if in.run.locked {
			in.run.keypair.Session.UnlockReceive()
		}
		*in = *newReceiveLoop(in.env, in.lane, in.socket, in.devices, in.tap)
	}
}

func (in *ReceiveLoop) loop() {
	wait, turns := true, 0
	conn, progress := in.socket.conn, in.socket.progress
	for {
		if wait {
			in.yield.beforeWait(in.now)
			progress.Idle()
		}
		n, err := conn.Receive(in.trains, wait)
		progress.Busy()
		if errors.Is(err, net.ErrClosed) {
			in.Flush()
			progress.Idle() // for good
			return
		}
		if err != nil {
			in.Flush()
			in.env.Drops.Add(drop.ReceiveError, 1)
			in.env.pause()
			continue
		}
		if n == 0 {
			in.Flush()
			wait, turns = true, 0
			continue
		}
		in.now = in.env.Clock.Now()
		for i := range n {
			in.train(&in.trains[i])
		}
		wait = false
		if turns++; turns >= maxTurns {
			in.Flush()
			turns = 0
		}
	}
}

// Flush writes the joined packets.
func (in *ReceiveLoop) Flush() {
	for _, w := range in.writers {
		if w != nil {
			w.forward.Flush(in.now)
			w.flush()
		}
	}
}

// Carry handles one train as if it had just been received at now. It only joins; Flush writes. Run
// does both; Carry exists to measure and test one step.
func (in *ReceiveLoop) Carry(tr *udp.Train, now boottime.Time) {
	in.now = now
	in.train(tr)
}

// train handles one received train of datagrams.
func (in *ReceiveLoop) train(tr *udp.Train) {
	if tr.N == 0 { // an empty datagram, or one that was truncated
		in.env.Drops.Add(drop.Malformed, 1)
		return
	}
	size := tr.Segment
	if size <= 0 {
		size = tr.N
	}
	in.congested, in.captures = tr.CE, in.env.Taps.Load()
	in.inspects = in.congested || in.captures != nil
	outer := in.captures != nil && in.captures.Outer()
	for off := 0; off < tr.N; off += size {
		d := tr.Buf[off:min(off+size, tr.N)]
		reason, queued := in.datagram(d, &tr.From)
		if outer && !queued { // otherwise it is captured when it is known what becomes of it
			in.captureDatagram(tr, d, reason)
		}
	}
	in.leave()
	for _, w := range in.writers {
		if w != nil {
			w.forward.EndTrain()
		}
	}
	in.captures = nil
}

// datagram handles one datagram, and counts it if it is dropped. It reports the reason, and whether
// the datagram waits for somebody else instead.
func (in *ReceiveLoop) datagram(d []byte, from *udp.Endpoint) (reason drop.Reason, queued bool) {
	kind, ok := wire.Kind(d)
	switch {
	case !ok:
		reason = drop.Malformed
	case kind == wire.TypeTransport:
		reason = in.transport(d, from)
	case in.env.Link.Down():
		in.leave()
		reason = drop.DeviceDown
	default:
		in.leave()
		reason = in.shakes.Message(kind, d, from, in.now)
		queued = reason == drop.None
	}
	if reason != drop.None {
		in.env.Drops.Add(reason, 1)
	}
	return reason, queued
}

// transport handles one transport message.
func (in *ReceiveLoop) transport(d []byte, from *udp.Endpoint) drop.Reason {
	if index := wire.TransportReceiver(d); in.run.keypair == nil || index != in.run.index {
		in.leave()
		if !in.enter(index, from) {
			return drop.UnknownIndex
		}
	}
	return in.open(d)
}

// open decrypts one transport message of the present run and delivers its content. The order
// is that of the whitepaper §5.4.6: nothing changes before the tag has been verified and the
// counter is fresh.
func (in *ReceiveLoop) open(d []byte) drop.Reason {
	r := &in.run
	counter := wire.TransportCounter(d)
	if !r.keypair.Usable(in.now) || counter >= session.RejectAfterMessages {
		return drop.Expired
	}
	w := in.writers[r.keypair.LastLink.Load()]
	if w == nil {
		w = in.anyWriter()
	}
	dst := w.join.Slot(len(d) - wire.TransportOverhead)
	n, ok := r.keypair.Session.Open(dst, d, &in.nonce)
	if !ok {
		w.join.Cancel()
		return drop.BadTag
	}
	if !r.keypair.Session.Accept(counter) {
		w.join.Cancel()
		r.keypair.Peer.CountDrop(drop.Replay, 1)
		return drop.Replay
	}
	in.authenticated(counter)
	r.packets++
	r.bytes += uint64(len(d))
	if n == 0 { // a keepalive
		w.join.Cancel()
		return drop.None
	}
	r.data = true
	return in.deliver(w, dst[:n])
}

// deliver hands a plaintext, decrypted into the space of w, to the device for which it is meant.
func (in *ReceiveLoop) deliver(w *deviceWriter, plaintext []byte) drop.Reason {
	from := in.run.keypair.Peer
	link, ok := linkOf(plaintext[0])
	if !ok {
		reason := in.env.Control(in.run.keypair, plaintext, in.now)
		w.join.Cancel() // restores what the plaintext was decrypted over: the plaintext is gone now
		from.CountDrop(reason, 1)
		return reason
	}
	in.run.carried = true
	if in.run.refuse {
		in.captureRefused(link, plaintext, drop.NotPostQuantum)
		w.join.Cancel()
		from.CountDrop(drop.NotPostQuantum, 1)
		return drop.NotPostQuantum
	}
	want := in.writers[link]
	if want == nil {
		w.join.Cancel()
		from.CountDrop(drop.NoDevice, 1)
		return drop.NoDevice
	}
	if want != w { // it was decrypted in the writer of the last payload; move it
		dst := want.join.Slot(len(plaintext))
		copy(dst, plaintext)
		w.join.Cancel()
		w, plaintext = want, dst[:len(plaintext)]
		in.run.keypair.LastLink.Store(uint32(link))
	}
	packet, reason := w.forward.Deliver(from, plaintext, in.now)
	if in.inspects {
		packet, reason = in.inspect(w.dev, plaintext, packet, reason)
	}
	if r := w.put(plaintext, packet); r != drop.None {
		return r
	}
	return reason
}

// inspect does what few trains need: it hands the mark of congestion on, and what is dropped to
// those who capture. plaintext, packet and reason are Deliver's; it returns what is left of the
// latter two.
func (in *ReceiveLoop) inspect(dev *Device, plaintext, packet []byte, reason drop.Reason) ([]byte, drop.Reason) {
	shown := packet
	if in.congested && packet != nil && !meetCongestion(ipIn(packet, dev.Link)) {
		in.run.keypair.Peer.CountDrop(drop.Congestion, 1)
		packet, reason = nil, drop.Congestion
	}
	if in.captures != nil && reason != drop.None {
		in.captureDropped(dev, plaintext, shown, reason)
	}
	return packet, reason
}

func (in *ReceiveLoop) anyWriter() *deviceWriter {
	for _, w := range in.writers {
		if w != nil {
			return w
		}
	}
	panic("tunnel/lane: no device") // NewReceiveLoop is given at least one
}

// linkOf returns the device kind of an inner payload, by its first nibble (docs/protocol.md).
func linkOf(first byte) (offload.Link, bool) {
	switch first >> 4 {
	case 4, 6:
		return offload.IP, true
	case 1:
		return offload.Ethernet, true
	}
	return 0, false
}

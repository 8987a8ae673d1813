package lane

import (
	"errors"

	"golang.org/x/sys/unix"

	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/capture"
	"tund/tunnel/peer"
	"tund/tunnel/udp"
)

// Terms: a run is what one UDP_SEGMENT send carries: datagrams of one session and size to one
// endpoint, of which the last may be shorter. A batch is what one sendmmsg carries: several runs,
// to any endpoints.

// Bounds on one batch.
const (
	// maxRunSegments is the number of datagrams into which kernels before 6.9 split one send
	// (UDP_MAX_SEGMENTS). Later ones accept 128, but a full superpacket needs no more than 47.
	maxRunSegments = 64
	// maxRunBytes is the largest UDP payload over IPv4: 65,535 less 20 and 8.
	maxRunBytes = 65507
	// maxRuns bounds the messages of one sendmmsg.
	maxRuns = 64
	// flushBytes is the amount at which gathering ends and sending begins: four superpackets. At
	// the usual MTU a superpacket is a run and two more datagrams, and sending two leftover
	// datagrams costs the kernels at both ends almost as much as a full run: a send, a train of its
	// own, a wakeup. Therefore runs continue across superpackets as long as more are waiting.
	flushBytes = 256 << 10
	// sendArena holds that and another superpacket, encrypted (47 × 1,452 bytes at the usual MTU;
	// the 100 % overhead of the smallest segments is flushed in between).
	sendArena = flushBytes + 160<<10
	// largeDatagram is the size from which datagrams, in bytes, may be too large for a path that
	// has become narrower.
	largeDatagram = 1000
	// MaxDatagram is the size of the largest datagram, in bytes, that may be appended to a batch,
	// and thus the minimum arena.
	MaxDatagram = 65535 + wire.TransportOverhead
)

// Batch gathers encrypted datagrams in the order of sending, and sends them through the socket of
// one lane in as few system calls as possible. Each loop and each worker has its own, so none waits
// for another's send. It is not safe for concurrent use.
type Batch struct {
	env     *Env
	lane    *Lane
	binding *binding
	sender  udp.Sender

	arena []byte
	used  int
	runs  []udp.Run
	infos []runInfo
	nonce session.Scratch

	tap   capture.Writer // the zero Writer unless a loop of a lane owns the batch
	waits bool           // see MayWait
}

// runInfo is what has to be known about a run after it was sent.
type runInfo struct {
	peer     *peer.Peer
	session  *session.Session
	count    int  // datagrams
	open     bool // accepts another datagram of the same size or a last, shorter one
	hasData  bool // not only keepalives
	carries  bool // packets or frames, not only control messages
	endpoint *udp.Endpoint
}

// NewBatch returns an empty batch that gathers up to arena bytes, at least MaxDatagram.
func NewBatch(env *Env, l *Lane, arena int) *Batch {
	return &Batch{
		env: env, lane: l, arena: make([]byte, arena),
		runs: make([]udp.Run, 0, maxRuns), infos: make([]runInfo, 0, maxRuns),
	}
}

// MayWait makes b wait, for the copying of one packet, where another goroutine writes to the same
// captures, instead of losing packets there. It is not for lanes.
func (b *Batch) MayWait() *Batch {
	b.waits = true
	return b
}

// full reports whether a datagram with n bytes of payload might no longer fit.
func (b *Batch) full(n int) bool {
	return len(b.runs) == maxRuns || len(b.arena)-b.used < n+wire.TransportOverhead
}

// empty reports whether nothing has been gathered.
func (b *Batch) empty() bool { return len(b.runs) == 0 }

// seal encrypts plaintext, already padded, under the given counter and appends it as one datagram
// of a traffic class for p. The batch must not be full.
func (b *Batch) seal(p *peer.Peer, ep *udp.Endpoint, s *session.Session, counter uint64, plaintext []byte, class uint8) {
	n := s.Seal(b.arena[b.used:], counter, plaintext, &b.nonce)
	start := b.used
	b.used += n
	if last := len(b.runs) - 1; last >= 0 {
		r, info := &b.runs[last], &b.infos[last]
		if info.open && info.session == s && info.endpoint == ep && r.Class == class && n <= r.Segment &&
			info.count < maxRunSegments && len(r.Buf)+n <= maxRunBytes {
			r.Buf = r.Buf[:len(r.Buf)+n]
			info.count++
			info.open = n == r.Segment
			info.hasData = info.hasData || len(plaintext) > 0
			info.carries = info.carries || !isControl(plaintext)
			return
		}
	}
	b.runs = append(b.runs, udp.Run{Buf: b.arena[start:b.used:len(b.arena)], Segment: n, To: *ep, Class: class})
	b.infos = append(b.infos, runInfo{peer: p, session: s, count: 1, open: true, hasData: len(plaintext) > 0, carries: !isControl(plaintext), endpoint: ep})
}

// via returns the sender for the lane's socket.
func (b *Batch) via() udp.Sender {
	if now := b.lane.binding.Load(); now != b.binding {
		b.binding, b.sender = now, now.conn.NewSender()
	}
	return b.sender
}

// Flush sends the batch and informs the peers' timers. The batch is empty afterwards in any case: a
// datagram that the kernel refuses is lost and counted, and nothing waits for it.
func (b *Batch) Flush(now boottime.Time) {
	if len(b.runs) == 0 {
		return
	}
	for i := range b.infos {
		b.announce(&b.infos[i], now)
	}
	b.via().Send(b.runs)
	b.captureRuns(now)
	for i := range b.runs {
		b.account(&b.runs[i], &b.infos[i], now)
	}
	b.reset()
}

// reset empties the batch.
func (b *Batch) reset() {
	clear(b.runs)
	clear(b.infos)
	b.runs, b.infos, b.used = b.runs[:0], b.infos[:0], 0
}

// announce informs the timers of a peer about a run that is about to be sent. Afterwards would be
// too late: the answer may come while the sender returns from the kernel, and would then be taken
// for older than what it answers (kernel send.c, wg_packet_create_data_done, has the same order).
func (b *Batch) announce(info *runInfo, now boottime.Time) {
	info.peer.Timers.AuthenticatedSent(now)
	if info.hasData {
		info.peer.Timers.DataSent(now)
	}
	if info.carries && info.peer.Extension.NoteSent(now) {
		b.env.Unanswered(info.peer, now)
	}
}

// account counts a run that was sent, or why it was not. There will be no answer to what the kernel
// refused: the handshake that follows finds another path or reports the reason.
func (b *Batch) account(r *udp.Run, info *runInfo, now boottime.Time) {
	p := info.peer
	if r.SourceGone {
		p.ClearSource()
	}
	switch r.Err {
	case nil:
	case unix.ENOBUFS:
		// A full transmit queue, which happens to any flow that is faster than the link.
		b.env.Drop(p, drop.SendError, uint64(info.count-r.Sent))
	default:
		if b.env.SendFailed(p, r.Err, info.count-r.Sent, now) && r.Sent == 0 && udp.Unreachable(r.Err) {
			b.env.WantHandshake(p, now) // it finds another endpoint, or reports that there is none
		}
	}
	if r.Sent > 0 {
		p.CountLane(b.lane.ID, 0, uint64(r.Sent))
		p.Sent(uint64(r.Sent), uint64(min(r.Sent*r.Segment, len(r.Buf))))
	}
	if r.Segment >= largeDatagram && p.Extension.NoteLarge() {
		b.env.PathInUse(p)
	}
	b.env.Arm(p)
}

// SendStaged encrypts and sends the packets that wait for p, if p has a session by now, and reports
// whether nothing waits any longer. It also returns false while another goroutine sends them:
// further packets are then to be staged behind them.
func (b *Batch) SendStaged(p *peer.Peer, now boottime.Time) bool {
	for {
		kp, ep := p.Sending(b.lane.ID, now), p.Endpoint()
		if ep == nil {
			return false
		}
		if kp == nil {
			b.sendStagedControl(p, ep, now)
			if p.Sending(b.lane.ID, now) == nil {
				return false
			}
			continue // whoever gave it data sessions meanwhile found the packets taken
		}
		packets := p.Staged.Take(b.env.Waiting)
		if packets == nil {
			return p.Staged.Len() == 0
		}
		n := b.sealAll(p, kp, ep, packets, now)
		b.Flush(now)
		p.Staged.Done(n, packets[n:], b.env.Waiting)
		if n < len(packets) {
			b.env.WantHandshake(p, now)
			return false
		}
	}
}

// sendStagedControl sends those of the waiting messages that need not wait for data sessions, so
// that there can be some.
func (b *Batch) sendStagedControl(p *peer.Peer, ep *udp.Endpoint, now boottime.Time) {
	kp := p.SendingControl(b.lane.ID, now)
	if kp == nil {
		return
	}
	packets := p.Staged.Take(b.env.Waiting)
	if packets == nil {
		return
	}
	control, rest := make([][]byte, 0, len(packets)), make([][]byte, 0, len(packets))
	for _, plaintext := range packets {
		if isControl(plaintext) {
			control = append(control, plaintext)
		} else {
			rest = append(rest, plaintext)
		}
	}
	n := b.sealAll(p, kp, ep, control, now)
	b.Flush(now)
	p.Staged.Done(n, append(control[n:], rest...), b.env.Waiting)
}

// sealAll seals packets for p and returns how many: a session has a last counter.
func (b *Batch) sealAll(p *peer.Peer, kp *peer.Keypair, ep *udp.Endpoint, packets [][]byte, now boottime.Time) int {
	for i, plaintext := range packets {
		counter, ok := kp.Session.Reserve(1)
		if !ok {
			return i
		}
		if b.full(len(plaintext)) {
			b.Flush(now)
		}
		b.seal(p, ep, kp.Session, counter, plaintext, b.env.DSCP.of(plaintext))
	}
	return len(packets)
}

// Transmit seals one plaintext for p, already padded, or stages it. It is meant for single
// messages; SendLoop does the same for superpackets.
func (b *Batch) Transmit(p *peer.Peer, plaintext []byte, now boottime.Time) {
	if b.full(len(plaintext)) {
		b.Flush(now)
	}
	ep := p.Endpoint()
	if ep == nil {
		b.env.Drop(p, drop.NoEndpoint, 1)
		return
	}
	kp := p.Sending(b.lane.ID, now)
	if kp == nil && isControl(plaintext) {
		kp = p.SendingControl(b.lane.ID, now)
	}
	if kp == nil || !b.sealOne(p, ep, kp, plaintext, now) {
		b.env.Stage(p, plaintext, now)
	}
}

// TransmitIn seals one control message, already padded, in a certain session of its peer. It is
// lost if the session has no counters left or the peer no endpoint.
func (b *Batch) TransmitIn(kp *peer.Keypair, plaintext []byte, now boottime.Time) {
	if b.full(len(plaintext)) {
		b.Flush(now)
	}
	if ep := kp.Peer.Endpoint(); ep != nil {
		b.sealOne(kp.Peer, ep, kp, plaintext, now)
	}
}

// sealOne seals one plaintext unless the session has no counters left. The batch must not be full.
func (b *Batch) sealOne(p *peer.Peer, ep *udp.Endpoint, kp *peer.Keypair, plaintext []byte, now boottime.Time) bool {
	counter, ok := kp.Session.Reserve(1)
	if !ok {
		return false
	}
	b.seal(p, ep, kp.Session, counter, plaintext, b.env.DSCP.of(plaintext))
	if kp.RenewOnSend(counter, now) {
		b.env.WantHandshake(p, now)
	}
	return true
}

// isControl reports whether a plaintext carries no packet or frame: a keepalive or a control
// message, which need not wait for data sessions.
func isControl(plaintext []byte) bool {
	if len(plaintext) == 0 {
		return true
	}
	_, carries := linkOf(plaintext[0])
	return !carries
}

// Probe seals one plaintext for p and sends it at once, ahead of what was gathered, so that nobody
// may fragment it. Without a session it does nothing. It returns the error with which the kernel
// refused the datagram: EMSGSIZE if the interface does not take it, which says nothing against p.
func (b *Batch) Probe(p *peer.Peer, plaintext []byte, now boottime.Time) error {
	b.Flush(now)
	ep, kp := p.Endpoint(), p.SendingControl(b.lane.ID, now)
	if ep == nil || kp == nil || !b.sealOne(p, ep, kp, plaintext, now) {
		return nil
	}
	r := &b.runs[0]
	r.DontFragment = true
	b.announce(&b.infos[0], now)
	b.via().Send(b.runs)
	b.captureRuns(now)
	err := r.Err
	if err == nil {
		p.CountLane(b.lane.ID, 0, 1)
		p.Sent(1, uint64(len(r.Buf)))
	}
	b.env.Arm(p)
	b.reset()
	return err
}

// SendMessage sends one datagram that is not transport data, ahead of what was gathered. sourceGone
// reports that the local address of to no longer exists; the kernel has chosen another.
func (b *Batch) SendMessage(msg []byte, to *udp.Endpoint) (sourceGone bool, err error) {
	return b.sendMessage(nil, msg, to)
}

// sendMessage is SendMessage to a peer, which is nil if it is not known.
func (b *Batch) sendMessage(p *peer.Peer, msg []byte, to *udp.Endpoint) (sourceGone bool, err error) {
	at := b.env.Clock.Now() // before the answer can have come
	run := [1]udp.Run{{Buf: msg, Segment: len(msg), To: *to, Class: b.env.DSCP.plain()}}
	b.via().Send(run[:])
	b.captureMessage(p, msg, to, at, run[0].Err)
	return run[0].SourceGone, run[0].Err
}

// SendToPeer sends an initiation to p's endpoint and informs its timers. It returns the error with
// which the kernel refused it, and nil if p's endpoint is not known.
func (b *Batch) SendToPeer(p *peer.Peer, msg []byte, now boottime.Time) error {
	ep := p.Endpoint()
	if ep == nil {
		return nil
	}
	return b.SendToPeerAt(p, msg, ep, now)
}

// SendToPeerAt sends an initiation or response to p at ep, which need not be its endpoint, and
// informs its timers. It returns the error with which the kernel refused it.
func (b *Batch) SendToPeerAt(p *peer.Peer, msg []byte, ep *udp.Endpoint, now boottime.Time) error {
	// Before it is sent: the first packet of the session may arrive while this goroutine returns
	// from the kernel, and calls for a keepalive (kernel send.c,
	// wg_packet_send_handshake_response).
	p.Timers.AuthenticatedSent(now)
	gone, err := b.sendMessage(p, msg, ep)
	if gone {
		p.ClearSource()
	}
	switch known := p.Endpoint(); {
	case err == nil:
		p.MessageSent(len(msg))
	case known == nil || known.Addr == ep.Addr:
		b.env.SendFailed(p, err, 1, now)
	default: // such an error says nothing about the path to the peer
		b.env.Drop(p, ReasonOf(err), 1)
	}
	b.env.Arm(p)
	return err
}

// ReasonOf returns the drop reason for a datagram that the kernel refused to send with err.
func ReasonOf(err error) drop.Reason {
	if errors.Is(err, unix.EMSGSIZE) {
		return drop.TooBig
	}
	return drop.SendError
}

package tunnel

import (
	"golang.org/x/sys/unix"

	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/udp"
)

// Terms: a run is what one UDP_SEGMENT send carries: datagrams of one size to one endpoint, the last of which may
// be shorter. A batch is what one sendmmsg carries: several runs, to any endpoints.

// Bounds of one batch.
const (
	// maxRunSegments is what kernels before 6.9 cut one send into (UDP_MAX_SEGMENTS); later ones take 128, but a
	// full superpacket needs no more than 47.
	maxRunSegments = 64
	// maxRunBytes is the largest UDP payload over IPv4: 65,535 less 20 and 8.
	maxRunBytes = 65507
	// maxRuns bounds the messages of one sendmmsg.
	maxRuns = 64
	// flushBytes is where gathering ends and sending begins: four superpackets. At the usual MTU a superpacket is a run
	// and two datagrams more, and a run of two costs the kernels of both sides almost as much as a full one: a send, a
	// train of its own, a wakeup. So runs go on across superpackets while more wait.
	flushBytes = 256 << 10
	// arenaBytes holds that and another superpacket, sealed (47 × 1,452 bytes at the usual MTU, 100 % overhead at the
	// smallest segments are flushed in between).
	arenaBytes = flushBytes + 160<<10
	// maxDatagram is the largest datagram that seal may append.
	maxDatagram = 65535 + wire.TransportOverhead
)

// sealer gathers sealed datagrams in send order and sends them in as few system calls as they allow.
// It belongs to one loop and is not safe for concurrent use.
type sealer struct {
	t       *Tunnel
	binding *binding
	sender  udp.Sender

	arena []byte
	used  int
	runs  []udp.Run
	infos []runInfo
	nonce session.Scratch
}

// runInfo is what the engine has to know of a run after it was sent.
type runInfo struct {
	peer     *Peer
	count    int  // datagrams
	open     bool // takes another datagram of the same size or a last, shorter one
	hasData  bool // not only keepalives
	endpoint *udp.Endpoint
}

func newSealer(t *Tunnel, arena int) *sealer {
	return &sealer{
		t: t, arena: make([]byte, arena),
		runs: make([]udp.Run, 0, maxRuns), infos: make([]runInfo, 0, maxRuns),
	}
}

// full reports whether a datagram that carries n bytes might not fit any more.
func (s *sealer) full(n int) bool {
	return len(s.runs) == maxRuns || len(s.arena)-s.used < n+wire.TransportOverhead
}

// empty reports whether nothing was gathered.
func (s *sealer) empty() bool { return len(s.runs) == 0 }

// seal appends one datagram for p: plaintext, already padded, under the given counter. It must not be full.
func (s *sealer) seal(p *Peer, ep *udp.Endpoint, sess *session.Session, counter uint64, plaintext []byte) {
	n := sess.Seal(s.arena[s.used:], counter, plaintext, &s.nonce)
	start := s.used
	s.used += n
	if last := len(s.runs) - 1; last >= 0 {
		r, info := &s.runs[last], &s.infos[last]
		if info.open && info.peer == p && info.endpoint == ep && n <= r.Segment &&
			info.count < maxRunSegments && len(r.Buf)+n <= maxRunBytes {
			r.Buf = r.Buf[:len(r.Buf)+n]
			info.count++
			info.open = n == r.Segment
			info.hasData = info.hasData || len(plaintext) > 0
			return
		}
	}
	s.runs = append(s.runs, udp.Run{Buf: s.arena[start:s.used:len(s.arena)], Segment: n, To: *ep})
	s.infos = append(s.infos, runInfo{peer: p, count: 1, open: true, hasData: len(plaintext) > 0, endpoint: ep})
}

// flush sends the batch and tells the peers' timers. The batch is empty afterwards whatever happened:
// a datagram that the kernel refuses is lost, counted, and nobody waits for it.
func (s *sealer) flush(b *binding, now boottime.Time) {
	if len(s.runs) == 0 {
		return
	}
	if s.binding != b {
		s.binding, s.sender = b, b.conn.NewSender()
	}
	s.sender.Send(s.runs)
	for i := range s.runs {
		s.account(&s.runs[i], &s.infos[i], now)
	}
	clear(s.runs)
	clear(s.infos)
	s.runs, s.infos, s.used = s.runs[:0], s.infos[:0], 0
}

func (s *sealer) account(r *udp.Run, info *runInfo, now boottime.Time) {
	p := info.peer
	if r.SourceGone {
		p.clearSource()
	}
	switch r.Err {
	case nil:
	case unix.ENOBUFS: // a full queue on the way out, as it happens to any flow that is faster than the link
		s.t.drops.Add(drop.SendError, uint64(info.count-r.Sent))
	default:
		s.t.sendFailed(p, r.Err, info.count-r.Sent, now)
	}
	if r.Sent > 0 {
		p.txBytes.Add(uint64(min(r.Sent*r.Segment, len(r.Buf))))
		p.txPackets.Add(uint64(r.Sent))
		p.timers.AuthenticatedSent(now)
	}
	if info.hasData {
		p.timers.DataSent(now) // what the kernel refused is not answered: the handshake that follows finds a way or says why
	}
	s.t.armed(p)
}

// renew asks for a new session when the one in use has become old or used up (kernel send.c, keep_key_fresh).
func (s *sealer) renew(p *Peer, sl *slot, counter uint64, now boottime.Time) {
	if counter > session.RekeyAfterMessages ||
		sl.session.Initiator() && now.Sub(sl.established) >= sl.renewAfter {
		s.t.wantHandshake(p, now)
	}
}

// sendStaged seals and sends what waits for p, if it has a session by now, and reports whether it had. It keeps the
// stage locked meanwhile, so that packets which follow are sent behind.
func (s *sealer) sendStaged(p *Peer, b *binding, now boottime.Time) bool {
	p.staged.mu.Lock()
	defer p.staged.mu.Unlock()
	sl, ep := p.current.Load(), p.endpoint.Load()
	if sl == nil || ep == nil || !sl.usable(now) {
		return false
	}
	for len(p.staged.packets) > 0 {
		counter, ok := sl.session.Reserve(1)
		if !ok {
			s.t.wantHandshake(p, now)
			break
		}
		plaintext := p.staged.pop(&s.t.budget)
		if s.full(len(plaintext)) {
			s.flush(b, now)
		}
		s.seal(p, ep, sl.session, counter, plaintext)
	}
	s.flush(b, now)
	p.staged.publish() // only now: until then a lane that comes by has to wait behind them
	return true
}

// transmit sends one plaintext of count segments' worth to p, or stages it. It is the way of single messages; the
// loop of outbound.go does the same for superpackets.
func (s *sealer) transmit(p *Peer, plaintext []byte, now boottime.Time) drop.Reason {
	sl, ep, r := s.ready(p, now)
	if r != drop.None {
		return r
	}
	if sl != nil {
		if counter, ok := sl.session.Reserve(1); ok {
			s.seal(p, ep, sl.session, counter, plaintext)
			s.renew(p, sl, counter, now)
			return drop.None
		}
	}
	s.t.stage(p, plaintext, now)
	return drop.None
}

// ready returns the session and endpoint to send to p with. A nil slot without a reason means that p has no session
// yet and its packets are to be staged.
func (s *sealer) ready(p *Peer, now boottime.Time) (*slot, *udp.Endpoint, drop.Reason) {
	ep := p.endpoint.Load()
	if ep == nil {
		return nil, nil, drop.NoEndpoint
	}
	sl := p.current.Load()
	if sl == nil || !sl.usable(now) {
		return nil, ep, drop.None
	}
	return sl, ep, drop.None
}

package tunnel

import (
	"errors"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/l2"
	"tund/tunnel/protocol"
	"tund/tunnel/udp"
)

// slowSender sends for everybody who is not a lane: handshakes, keepalives and staged packets.
type slowSender struct {
	mu  sync.Mutex // guards all; held while sending. Order: Peer.mu, slowSender.mu, stage.mu, timerLoop.mu
	t   *Tunnel
	out *sealer
	run [1]udp.Run
	b   *binding
	via udp.Sender
}

// slowArena holds a batch of staged packets.
const slowArena = 2 * maxDatagram

func (s *slowSender) init(t *Tunnel) { s.t, s.out = t, newSealer(t, slowArena) }

// send sends one datagram that is not transport data.
func (s *slowSender) send(msg []byte, to *udp.Endpoint) (sourceGone bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.t.lanes[0].binding.Load(); b != s.b {
		s.b, s.via = b, b.conn.NewSender()
	}
	s.run[0] = udp.Run{Buf: msg, Segment: len(msg), To: *to}
	s.via.Send(s.run[:])
	r := s.run[0]
	s.run[0] = udp.Run{}
	return r.SourceGone, r.Err
}

// sendMessage sends a cookie reply; nobody is told when it fails.
func (t *Tunnel) sendMessage(msg []byte, to *udp.Endpoint) {
	if _, err := t.slow.send(msg, to); err != nil {
		t.drops.Add(reasonOf(err), 1)
	}
}

// sendToPeer sends an initiation or response to p's endpoint and tells its timers.
func (t *Tunnel) sendToPeer(p *Peer, msg []byte, now boottime.Time) {
	ep := p.endpoint.Load()
	if ep == nil {
		return
	}
	gone, err := t.slow.send(msg, ep)
	if gone {
		p.clearSource()
	}
	p.timers.AuthenticatedSent(now)
	if err != nil {
		t.sendFailed(p, err, 1, now)
	} else {
		p.txBytes.Add(uint64(len(msg)))
		p.sendFailure.Store(nil)
	}
	t.armed(p)
}

// keepalive sends an empty transport message, or begins a handshake when there is no session.
func (t *Tunnel) keepalive(p *Peer, now boottime.Time) {
	if p.staged.count.Load() == 0 {
		t.sendInner(p, nil, now)
	} else if !t.flushStaged(p, now) {
		t.wantHandshake(p, now) // what waits will say that we are here
	}
}

// sendInner sends one plaintext of ours, already padded, through p's session, or stages it and asks for a session.
func (t *Tunnel) sendInner(p *Peer, plaintext []byte, now boottime.Time) {
	t.slow.mu.Lock()
	defer t.slow.mu.Unlock()
	out := t.slow.out
	if reason := out.transmit(p, plaintext, now); reason != drop.None {
		t.drops.Add(reason, 1)
	}
	out.flush(t.lanes[0].binding.Load(), now)
}

// flushStaged sends what waits for p's session, and reports whether there was one.
func (t *Tunnel) flushStaged(p *Peer, now boottime.Time) bool {
	t.slow.mu.Lock()
	defer t.slow.mu.Unlock()
	return t.slow.out.sendStaged(p, t.lanes[0].binding.Load(), now)
}

// sessionUp is called when p has a session that it had not before: what waited goes now. When nothing waited an
// initiator says so with a keepalive, since the responder may not send before it hears from us (whitepaper §5.4.4).
func (t *Tunnel) sessionUp(p *Peer) {
	now := t.clock.Now()
	waiting := p.staged.count.Load() != 0
	if waiting {
		t.flushStaged(p, now)
	} else if s := p.current.Load(); s != nil && s.session.Initiator() {
		t.sendInner(p, nil, now)
	}
	t.armed(p)
	if t.ethernet != nil {
		t.ethernet.kick()
	}
}

// stage keeps plaintext until p has a session, and asks for one.
func (t *Tunnel) stage(p *Peer, plaintext []byte, now boottime.Time) {
	if lost := p.staged.put(plaintext, &t.budget); lost > 0 {
		t.drops.Add(drop.StagedFull, uint64(lost))
	}
	if s := p.current.Load(); s != nil && s.usable(now) {
		t.timers.arm(p, now) // it came up in between, or has no counters left: look sends what it can
		return
	}
	t.wantHandshake(p, now)
}

// wantHandshake asks the timer loop to begin a handshake with p, no sooner than RekeyTimeout after the last. While
// an initiation waits for its response the wish only renews the attempts left (kernel send.c,
// wg_packet_send_queued_handshake_initiation).
func (t *Tunnel) wantHandshake(p *Peer, now boottime.Time) {
	if p.wantHandshake.Load() || !p.wantHandshake.CompareAndSwap(false, true) || p.timers.Handshaking() {
		return
	}
	at := now
	if sent := boottime.Time(p.handshakeSent.Load()); sent != 0 {
		at = max(at, sent.Add(protocol.RekeyTimeout))
	}
	t.timers.arm(p, at)
}

// armed makes sure that the timer loop looks at p in time for its earliest deadline.
func (t *Tunnel) armed(p *Peer) {
	if next, ok := p.timers.NextOfTraffic(); ok {
		t.timers.arm(p, next)
	}
}

// roamedTo notes that a data message moved the peer's endpoint, and says so.
func (t *Tunnel) roamedTo(p *Peer, to *udp.Endpoint) {
	wall, addr := t.clock.Wall(), to.Addr
	t.explain.later(func() {
		p.mu.Lock()
		p.roamedAt = wall
		name := p.display()
		p.mu.Unlock()
		t.log.Info("peer moved", zap.String("peer", name), zap.Stringer("endpoint", addr))
	})
}

// control takes a payload that is neither a packet nor a frame: a control message of another tund's switch.
func (t *Tunnel) control(p *Peer, payload []byte) drop.Reason {
	if t.ethernet == nil {
		if l2.PayloadKind(payload) == l2.KindControl {
			t.explain.noSwitch(p)
			return drop.NoDevice
		}
		return drop.BadInnerPacket
	}
	return t.ethernet.take(p, payload)
}

func isTooBig(err error) bool { return errors.Is(err, unix.EMSGSIZE) }

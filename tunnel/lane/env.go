package lane

import (
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/capture"
	"tund/tunnel/peer"
	"tund/tunnel/peerlog"
	"tund/tunnel/staged"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// Handshakes takes the handshake messages that one receive loop finds.
type Handshakes interface {
	// Message takes a message of the given kind (wire.Kind) whose length has been checked. It
	// copies what it keeps, and never blocks. It returns why it dropped the message, which the
	// caller counts; or None, and then whoever handles the message hands it to those who capture.
	Message(kind byte, msg []byte, from *udp.Endpoint, now boottime.Time) drop.Reason
}

// Env is shared by all loops of a tunnel. Its fields are constant once the first loop runs, and
// what they point to is safe for concurrent use.
type Env struct {
	Clock     boottime.Clock
	Drops     *drop.Counters
	Index     *peer.Index
	Waiting   *staged.Budget // for staged packets
	Deadlines *timers.Heap[peer.Peer]
	Log       *peerlog.Log
	Link      *LinkState
	DSCP      DSCP
	Routes    *RouteLoops
	Flows     *Flows
	Stop      <-chan struct{} // closed when the tunnel ends
	Taps      capture.Taps    // where packets are copied from while somebody captures them

	// NewHandshakes gives each receive loop its own entry point to the handshakes.
	NewHandshakes func() Handshakes
	// Control takes an inner payload that is neither a packet nor a frame, and the session in which
	// it came. It copies what it keeps, and never blocks.
	Control func(kp *peer.Keypair, payload []byte, now boottime.Time) drop.Reason
	// SessionChanged is called when a peer has gained or lost a session, or does not answer. It
	// must not block.
	SessionChanged func(*peer.Peer)
	// PathInUse is called when large datagrams are sent to a peer with extensions after a pause. It
	// must not block.
	PathInUse func(*peer.Peer)
	// Unanswered is called when packets are sent to a peer with extensions, and none has come from
	// it since. It must not block.
	Unanswered func(p *peer.Peer, now boottime.Time)
	// VerifyChecksums makes the receive loops verify the transport checksums of inner packets.
	VerifyChecksums bool
}

// Stopped reports whether the tunnel is ending.
func (e *Env) Stopped() bool {
	select {
	case <-e.Stop:
		return true
	default:
		return false
	}
}

// pause keeps a socket or device that fails continuously from occupying a core.
func (e *Env) pause() {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-e.Stop:
	case <-timer.C:
	}
}

// Guard runs one unit of work. A panic in it is a bug in tund: it is counted and logged, and the
// caller continues.
func (e *Env) Guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			e.Drops.Add(drop.Internal, 1)
			e.Log.Bug(e.Clock.Now(), what, r)
		}
	}()
	f()
}

// survive runs a loop of the packet path. After a panic, which is a bug in tund, it returns true:
// the loop is to begin again, with state that the caller recreates. It returns false if the loop
// has ended by itself.
func (e *Env) survive(what string, loop func()) (again bool) {
	again = true
	e.Guard(what, func() {
		loop()
		again = false
	})
	return again && !e.Stopped()
}

// WantHandshake requests a handshake with p as soon as the rules allow one.
func (e *Env) WantHandshake(p *peer.Peer, now boottime.Time) {
	if at, arm := p.Timers.WantHandshake(now); arm {
		e.Deadlines.Arm(&p.Deadline, at)
		if at <= now {
			e.Deadlines.Wake()
		}
	}
}

// WantKeepalive makes p hear from us at once, and begins a handshake if necessary.
func (e *Env) WantKeepalive(p *peer.Peer, now boottime.Time) {
	p.Timers.WantKeepalive()
	e.Deadlines.Arm(&p.Deadline, now)
}

// Arm makes sure that p's timers are checked in time for those that traffic starts.
func (e *Env) Arm(p *peer.Peer) {
	if next, ok := p.Timers.NextOfTraffic(); ok {
		e.Deadlines.Arm(&p.Deadline, next)
	}
}

// Drop counts n dropped packets of p or for it.
func (e *Env) Drop(p *peer.Peer, r drop.Reason, n uint64) {
	e.Drops.Add(r, n)
	p.CountDrop(r, n)
}

// Stage keeps plaintext until p has a session in which it may leave, and asks for one.
func (e *Env) Stage(p *peer.Peer, plaintext []byte, now boottime.Time) {
	if lost := p.Staged.Put(plaintext, e.Waiting); lost > 0 {
		e.Drop(p, drop.StagedFull, uint64(lost))
	}
	switch {
	case p.Sending(0, now) != nil:
		// The session came up meanwhile, or has no counters left: the timers send what they can.
		e.Deadlines.Arm(&p.Deadline, now)
	case p.SendingControl(0, now) == nil:
		e.WantHandshake(p, now)
	default:
		// There are no data sessions yet, or none any longer. What waits for them counts like
		// something sent: a peer from which nothing comes either may have forgotten the session.
		p.Timers.DataSent(now)
		e.Arm(p)
	}
}

// SessionUp is called when p has a new session that the peer is known to have as well: the timers
// send the waiting packets at once.
func (e *Env) SessionUp(p *peer.Peer, now boottime.Time) {
	if p.Staged.Len() != 0 {
		e.Deadlines.Arm(&p.Deadline, now)
	}
	e.Arm(p)
	e.SessionChanged(p)
}

// SendFailed counts datagrams to p that the kernel refused. It reports whether that made a new
// note, which happens at most once a second.
func (e *Env) SendFailed(p *peer.Peer, err error, count int, now boottime.Time) (fresh bool) {
	e.Drop(p, ReasonOf(err), uint64(count))
	return p.SendFailed(err, now)
}

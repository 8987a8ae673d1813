package tunnel

import (
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/tunnel/protocol"
)

// explainer says in words why things fail, seldom enough that nobody can fill a disk with it. Each message has an
// interval; what happens in between is counted and told with the next one.
//
// Nothing here is called per packet. The calls that lanes make pass an atomic check first and then leave an event in
// a bounded queue: a lane never waits for a log.
type explainer struct {
	t      *Tunnel
	log    *zap.Logger
	events chan func()

	wrongKeyGate, refusedGate, loadGate, unknownGate gate
}

// Intervals between messages of one kind.
const (
	explainEvery     = time.Minute      // about one peer
	explainEveryHost = 10 * time.Second // about anybody
)

func newExplainer(t *Tunnel, log *zap.Logger) *explainer {
	return &explainer{t: t, log: log, events: make(chan func(), 64)}
}

// gate lets one caller through in each interval, and counts.
type gate struct {
	next  atomic.Int64
	count atomic.Uint64
}

func (g *gate) open(now boottime.Time, every time.Duration) (count uint64, ok bool) {
	n := g.count.Add(1)
	next := g.next.Load()
	if int64(now) < next || !g.next.CompareAndSwap(next, int64(now.Add(every))) {
		return n, false
	}
	return n, true
}

// later queues a message for the reporter; when the queue is full it is lost, the counters are not.
func (e *explainer) later(f func()) {
	select {
	case e.events <- f:
	default:
	}
}

// report writes queued messages until stop is closed.
func (e *explainer) report(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case f := <-e.events:
			f()
		}
	}
}

func (e *explainer) wrongKey(now boottime.Time, from netip.AddrPort) {
	if n, ok := e.wrongKeyGate.open(now, explainEveryHost); ok {
		e.later(func() {
			e.log.Warn("handshake for another key: the sender has a wrong public key for this server",
				zap.Stringer("endpoint", from), zap.Uint64("total", n))
		})
	}
}

func (e *explainer) offloadRefused(now boottime.Time, device string, err error) {
	if n, ok := e.refusedGate.open(now, explainEvery); ok {
		e.later(func() {
			e.log.Warn("device refused a superpacket; written as single packets instead (offload = \"off\" avoids this)",
				zap.String("iface", device), zap.Error(err), zap.Uint64("total", n))
		})
	}
}

func (e *explainer) underLoad(now boottime.Time) {
	if n, ok := e.loadGate.open(now, explainEveryHost); ok {
		e.later(func() {
			e.log.Warn("under load: initiators have to prove their address", zap.Uint64("messages", n))
		})
	}
}

func (e *explainer) unknownPeer(now boottime.Time, key keys.PublicKey, from netip.AddrPort) {
	if n, ok := e.unknownGate.open(now, explainEveryHost); ok {
		e.later(func() {
			e.log.Warn("handshake from an unknown peer: its public key is in no [[peer]] here",
				zap.String("key", key.Short()), zap.Stringer("endpoint", from), zap.Uint64("total", n))
		})
	}
}

// noSwitch is called by lanes when a peer speaks Ethernet to a tunnel without a TAP.
func (e *explainer) noSwitch(p *Peer) {
	now := e.t.clock.Now()
	e.later(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		e.peerEvent(p, now, "peer wants to carry Ethernet, but there is no [tap] here")
	})
}

// peerEvent logs about one peer, once in explainEvery. Callers hold p.mu.
func (e *explainer) peerEvent(p *Peer, now boottime.Time, msg string, fields ...zap.Field) {
	ok, suppressed := p.logged.allow(now, explainEvery)
	if !ok {
		return
	}
	if suppressed > 0 {
		fields = append(fields, zap.Int("suppressed", suppressed))
	}
	fields = append([]zap.Field{zap.String("peer", p.display())}, fields...)
	e.later(func() { e.log.Warn(msg, fields...) }) // a log that is stuck holds neither p.mu nor the timers
}

func (e *explainer) replayed(p *Peer, now boottime.Time, from netip.AddrPort) {
	const why = "initiation with an old timestamp: replayed, or the peer's clock went back"
	p.fail(e.t, now, why)
	e.peerEvent(p, now, why, zap.Stringer("endpoint", from))
}

func (e *explainer) pskMismatch(p *Peer, now boottime.Time, from netip.AddrPort) {
	const why = "response does not decrypt: the preshared keys differ"
	p.fail(e.t, now, why)
	e.peerEvent(p, now, why, zap.Stringer("endpoint", from))
}

func (e *explainer) peerUnderLoad(p *Peer, now boottime.Time) {
	const why = "peer is under load and asked to prove our address; the next attempt does"
	p.fail(e.t, now, why)
	e.peerEvent(p, now, why)
}

// unconfirmed is called after each response. Three in a row that led to nothing are worth a word.
func (e *explainer) unconfirmed(p *Peer, now boottime.Time) {
	if p.unconfirmed < 3 {
		return
	}
	const why = "peer does not accept our responses: its preshared key differs, or they do not reach it"
	p.fail(e.t, now, why)
	e.peerEvent(p, now, why, zap.Int("responses", p.unconfirmed))
}

// noAnswer is called when an initiation had no response in time. Callers hold p.mu.
func (e *explainer) noAnswer(p *Peer, now boottime.Time) {
	ep := p.endpoint.Load()
	if ep == nil {
		return
	}
	f := p.sendFailure.Load()
	switch {
	case p.looped(now):
		p.fail(e.t, now, loopText(ep.Addr))
	case f != nil:
		p.fail(e.t, now, "cannot send to "+ep.Addr.String()+": "+f.err.Error())
	case p.said(boottime.Time(p.handshakeSent.Load())) != "":
		p.fail(e.t, now, "no answer from "+ep.Addr.String()+": "+p.said(0))
	case now.Sub(p.lastErrorAt) >= protocol.RekeyTimeout || p.lastError == "": // nothing better is known of this attempt
		p.fail(e.t, now, "no answer from "+ep.Addr.String()+
			": peer down, datagrams blocked, wrong public key for it, or ours unknown there")
	}
	// Not the attempts of the timers: traffic that goes on renews those.
	if n := p.unanswered.Load(); n >= 2 {
		e.peerEvent(p, now, "handshake failed: "+p.lastError, zap.Int32("attempts", n))
	}
}

// sendFailure is the last refusal of the kernel to send to a peer.
type sendFailure struct {
	err error
	at  boottime.Time
}

// sendFailed counts datagrams that the kernel refused. It is called by lanes: it allocates at most once a second
// per peer and takes no lock.
func (t *Tunnel) sendFailed(p *Peer, err error, count int, now boottime.Time) {
	t.drops.Add(reasonOf(err), uint64(count))
	if f := p.sendFailure.Load(); f == nil || now.Sub(f.at) > time.Second || f.err != err {
		p.sendFailure.Store(&sendFailure{err, now})
		if isTooBig(err) && t.pathHint != nil {
			t.pathHint()
		}
	}
}

func reasonOf(err error) drop.Reason {
	if isTooBig(err) {
		return drop.TooBig
	}
	return drop.SendError
}

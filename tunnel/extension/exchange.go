// Package extension is what two tund peers do inside their sessions beyond what WireGuard defines:
// it finds out which peers are tund (hello), says goodbye to them at a stop, measures round trips
// and losses by echo requests, judges by them whether a peer is alive, finds out how large the
// packets are that the path to it carries, tells it that its packets are dropped for their source
// (refusal) or that nothing comes from it (unheard), and carries the control messages of other
// parts of the engine, which register a Handler for each type.
//
// Exchange is both ends of that. Lanes hand it the control messages that they receive; one
// goroutine handles these, keeps all state, and sends. What lanes and status need of the result is
// published in the peer (peer.Extension). The package moves no packets, makes no sessions and knows
// no frames: the messages of the switch have a nibble of their own and are tunnel/ethernet's.
//
// A peer learns and changes only what concerns itself. Nothing here happens before a message has
// been authenticated by the session in which it came, and replays are dropped before that.
package extension

import (
	"net/netip"
	"sync/atomic"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
	"tund/internal/watchdog"
	"tund/tunnel/lane"
	"tund/tunnel/peer"
	"tund/tunnel/timers"
)

// Bounds on the control messages of peers.
const (
	// maxQueue is the number of messages that wait to be handled. Further ones are dropped: what
	// matters is repeated by its sender.
	maxQueue = 256
	// perSecond is the number of messages that one peer may send per second, and burst how many of
	// them at once: a search for the path MTU sends some ten in a row.
	perSecond = 100
	burst     = 100
)

var messageRate = limit.PerSecond(perSecond, burst)

// Message is a control message that a peer has sent, authenticated and never seen before.
type Message struct {
	Peer *peer.Peer
	// Keypair is the session in which it came.
	Keypair *peer.Keypair
	Type    Type
	// Body belongs to the Exchange: a Handler keeps nothing of it.
	Body []byte
	// Size is the length of the whole plaintext in bytes, padding included.
	Size int
	// At is when the lane received it.
	At boottime.Time
}

// Handler handles the messages of one type, on the goroutine of Exchange.Run. It must not block. A
// reason other than drop.None is counted, for the peer and for the tunnel.
type Handler func(*Message) drop.Reason

// Exchange exchanges control messages with the peers of a tunnel. Its methods are safe for
// concurrent use unless they say otherwise.
type Exchange struct {
	env      *lane.Env
	peers    *peer.Table
	progress *watchdog.Progress

	// Constant once Run runs.
	handlers [maxType]Handler
	features Features // of other parts
	greeted  []func(p *peer.Peer, kp *peer.Keypair, initiator bool)
	silence  []func(*peer.Peer)
	ticks    []func(*peer.Peer) boottime.Time

	queue chan *received
	pings chan *ping
	free  chan *received // used up, to be filled again
	due   *timers.Heap[peer.Peer]
	wake  chan struct{} // capacity 1: the earliest deadline moved forward

	interfaces  atomic.Pointer[map[netip.Addr]int] // MTUs, by endpoint; nil: not known
	pathChanged func()                             // constant once Run runs; may be nil

	// Used only by Run.
	out     *lane.Batch
	now     boottime.Time
	states  map[*peer.Peer]*state
	scratch []byte
}

// received is a message on its way from a lane to Run. Of one that is longer than its body, only
// the length of the padding is kept.
type received struct {
	Message
	plaintext [HeaderLen + MaxBody]byte
}

// New returns an Exchange with the peers of a table. Nothing runs before Run.
func New(env *lane.Env, peers *peer.Table, progress *watchdog.Progress) *Exchange {
	x := &Exchange{
		env: env, peers: peers, progress: progress, queue: make(chan *received, maxQueue), free: make(chan *received, maxQueue),
		pings: make(chan *ping, maxPings),
		wake:  make(chan struct{}, 1), states: make(map[*peer.Peer]*state),
	}
	x.due = timers.NewHeap[peer.Peer](x.kick)
	x.Handle(TypeHello, x.hello)
	x.Handle(TypeGoodbye, x.goodbye)
	x.Handle(TypeEchoRequest, x.echoRequest)
	x.Handle(TypeEchoReply, x.echoReply)
	x.Handle(TypeRefusal, x.refusal)
	x.Handle(TypeUnheard, x.unheard)
	return x
}

// Handle makes h the handler of a type. It is called before Run, once for each type.
func (x *Exchange) Handle(t Type, h Handler) {
	if t >= maxType || x.handlers[t] != nil {
		// A mistake in tund.
		panic("tunnel/extension: message type out of range or registered twice")
	}
	x.handlers[t] = h
}

// OnHello has f called, on the goroutine of Run, when both sides of a session know that the other
// is tund: the initiator of the session when the answer to its hello has come, the responder when
// it has answered. A session may be announced more than once. It is called before Run.
func (x *Exchange) OnHello(f func(p *peer.Peer, kp *peer.Keypair, initiator bool)) {
	x.greeted = append(x.greeted, f)
}

// Announce adds features to those that our hellos tell of. It is called before Run.
func (x *Exchange) Announce(f Features) { x.features |= f }

// OnSilence has f called, on the goroutine of Run, when the peer has not answered hellos in its
// present session, and is taken for plain WireGuard. It is called before Run.
func (x *Exchange) OnSilence(f func(*peer.Peer)) { x.silence = append(x.silence, f) }

// OnDue has f called, on the goroutine of Run, when something has changed about a peer or the time
// has come that f returned last, or that Later was told; 0: none. It is called before Run.
func (x *Exchange) OnDue(f func(*peer.Peer) boottime.Time) { x.ticks = append(x.ticks, f) }

// Now returns the time at which Run handles what it is handling. Only functions called by Run call
// it.
func (x *Exchange) Now() boottime.Time { return x.now }

// kick wakes Run.
func (x *Exchange) kick() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// Take takes a control message that a lane has received in a session. It copies what it keeps,
// takes no lock and never blocks. The reason is drop.None; drop.BadInnerPacket if it is no control
// message or none is wanted from this peer; drop.ControlRate; or drop.ControlQueue.
func (x *Exchange) Take(kp *peer.Keypair, plaintext []byte, now boottime.Time) drop.Reason {
	p := kp.Peer
	t, body, ok := Parse(plaintext)
	if !ok || p.Extension.Mode() == peer.ExtensionsOff {
		return drop.BadInnerPacket
	}
	if t >= maxType || x.handlers[t] == nil {
		return drop.None // of a later version
	}
	if !p.ControlRate().Take(now, 1, messageRate) {
		return drop.ControlRate
	}
	var m *received
	select {
	case m = <-x.free:
	default:
		m = new(received)
	}
	m.Message = Message{Peer: p, Keypair: kp, Type: t, Body: m.plaintext[:copy(m.plaintext[:], body)], Size: len(plaintext), At: now}
	select {
	case x.queue <- m:
		return drop.None
	default:
		x.giveBack(m)
		return drop.ControlQueue
	}
}

// giveBack keeps m for another message.
func (x *Exchange) giveBack(m *received) {
	m.Message = Message{} // so that it keeps no peer alive
	select {
	case x.free <- m:
	default:
	}
}

// SessionChanged is called when a peer has gained or lost a session, or was configured. It does not
// block.
func (x *Exchange) SessionChanged(p *peer.Peer) {
	if !p.Extension.Extended() && p.Current() == nil {
		return // nothing to do before the first session, as for most of very many peers
	}
	if p.Extension.Mode() != peer.ExtensionsOff || p.Extension.Features() != 0 || p.Removed() {
		x.due.Arm(p.ExtensionDeadline(), atOnce)
	}
}

// atOnce is a deadline that has always passed.
const atOnce boottime.Time = 1

// Run handles messages and deadlines, and sends through the socket of l, until the tunnel ends.
func (x *Exchange) Run(l *lane.Lane) {
	x.out = lane.NewBatch(x.env, l, lane.MaxDatagram).MayWait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		x.progress.Idle()
		select {
		case <-x.env.Stop:
			return
		case m := <-x.queue:
			x.now = x.env.Clock.Now()
			x.env.Guard("control message", func() { x.handle(m) })
		case o := <-x.pings:
			x.now = x.env.Clock.Now()
			x.env.Guard("ping", func() { x.beginPing(o) })
		case <-x.wake:
		case <-timer.C:
		}
		x.progress.Busy()
		x.now = x.env.Clock.Now()
		wait := x.deadlines()
		x.out.Flush(x.now)
		timer.Reset(wait)
	}
}

// handle handles one message.
func (x *Exchange) handle(m *received) {
	if !m.Peer.Removed() {
		x.env.Drop(m.Peer, x.handlers[m.Type](&m.Message), 1)
	}
	x.giveBack(m)
}

// deadlines handles the peers whose deadline has come, and returns the time until the next.
func (x *Exchange) deadlines() time.Duration {
	for {
		p, wait := x.due.Next(x.now)
		if p == nil {
			return wait
		}
		x.env.Guard("extensions of a peer", func() {
			if next := x.check(p); next != 0 {
				x.due.Arm(p.ExtensionDeadline(), next)
			}
		})
	}
}

// Send sends a control message to p in its current session. It does nothing if p has none: control
// messages do not wait for a session. Only handlers and functions of OnHello call it.
func (x *Exchange) Send(p *peer.Peer, t Type, body []byte) { x.send(p, t, body, 0) }

// send is Send for a message that is padded to at least size bytes.
func (x *Exchange) send(p *peer.Peer, t Type, body []byte, size int) {
	if kp := p.Current(); kp == nil || !kp.Usable(x.now) || p.Endpoint() == nil {
		return
	}
	x.scratch = AppendMessage(x.scratch[:0], t, body)
	if n := size - len(x.scratch); n > 0 {
		x.scratch = append(x.scratch, make([]byte, n)...)
	}
	x.out.Transmit(p, x.scratch, x.now)
}

// SendIn sends a control message in a certain WireGuard session, which need not be the current one.
// Only functions called by Run call it.
func (x *Exchange) SendIn(kp *peer.Keypair, t Type, body []byte) {
	x.scratch = AppendMessage(x.scratch[:0], t, body)
	x.out.TransmitIn(kp, x.scratch, x.now)
}

// SendKeepalive sends an empty message to p. Only functions called by Run call it.
func (x *Exchange) SendKeepalive(p *peer.Peer) { x.out.Transmit(p, nil, x.now) }

// Later has the functions of OnDue called for p at the given time, or before. Only functions called
// by Run call it.
func (x *Exchange) Later(p *peer.Peer, at boottime.Time) { x.due.Arm(p.ExtensionDeadline(), at) }

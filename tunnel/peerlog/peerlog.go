// Package peerlog logs why peers cannot be reached, seldom enough that nobody can fill a disk with
// it. Each message has an interval, and the messages about all peers together have a budget; events
// beyond these limits are counted, and the count is logged with the next message.
//
// Nothing here is called per packet. The calls that lanes make pass an atomic check first and then
// leave an event in a bounded queue, which Run writes: a lane never waits for a log. Counters
// record whatever a message reports.
package peerlog

import (
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/internal/limit"
	"tund/tunnel/peer"
)

// Log writes the messages of one tunnel. It is safe for concurrent use.
type Log struct {
	log    *zap.Logger
	events chan func()

	wrongKey, refused, underLoad, unknown, noSwitch limit.Every

	budget limit.Bucket  // messages about all peers together, and those about Ethernet
	bugs   limit.Bucket  // caught panics
	unsaid atomic.Uint64 // events since the last message for which the budget allowed none
}

const (
	// everyPeer is the interval between messages about one peer.
	everyPeer = time.Minute
	// burst is how many messages about different peers may be written at once, and everyOther is
	// the interval between those that follow. Without a limit, an uplink that fails would write a
	// line for each of thousands of peers, and so could peers that conspire.
	burst      = 30
	everyOther = 2 * time.Second
	// bugBurst is how many caught panics are logged at once, and everyBug is the interval between
	// those that follow: whoever finds a message that causes a panic can send it again.
	bugBurst = 5
	everyBug = 10 * time.Second
	// everyHost is the interval between messages of one kind that any host can cause.
	everyHost = 10 * time.Second
	// maxEvents is the number of events that may wait for Run. Further ones are lost.
	maxEvents = 64
)

var (
	budgetRate = limit.Each(everyOther, burst)
	bugRate    = limit.Each(everyBug, bugBurst)
)

// New returns a Log that writes to log once Run runs.
func New(log *zap.Logger) *Log { return &Log{log: log, events: make(chan func(), maxEvents)} }

// Run writes messages until stop is closed.
func (l *Log) Run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case f := <-l.events:
			f()
		}
	}
}

// Later has f called by Run; if too many already wait, f is discarded.
func (l *Log) Later(f func()) {
	select {
	case l.events <- f:
	default:
	}
}

// Warn writes a message without waiting for the log.
func (l *Log) Warn(msg string, fields ...zap.Field) {
	l.Later(func() { l.log.Warn(msg, fields...) })
}

// Bug logs a panic that was caught in what, with the stack of the caller. Panics beyond the limit
// are only counted, as drop.Internal.
func (l *Log) Bug(now boottime.Time, what string, panicked any) {
	if !l.bugs.Take(now, 1, bugRate) {
		return
	}
	stack := debug.Stack()
	l.Later(func() {
		l.log.Error("bug: panic in "+what, zap.Any("panic", panicked), zap.ByteString("stack", stack))
	})
}

// WrongKey is called when an initiation was made for another public key than ours.
func (l *Log) WrongKey(now boottime.Time, from netip.AddrPort) {
	if n, ok := l.wrongKey.Open(now, everyHost); ok {
		l.Warn("handshake for another key: the sender has a wrong public key for this server",
			zap.Stringer("endpoint", from), zap.Uint64("times", n))
	}
}

// OffloadRefused is called when a device refused a superpacket.
func (l *Log) OffloadRefused(now boottime.Time, device string, err error) {
	if n, ok := l.refused.Open(now, everyPeer); ok {
		l.Warn("device refused a superpacket; written as single packets instead (offload = \"off\" avoids this)",
			zap.String("iface", device), zap.Error(err), zap.Uint64("times", n))
	}
}

// UnderLoad is called when initiators have to prove their address.
func (l *Log) UnderLoad(now boottime.Time) {
	if n, ok := l.underLoad.Open(now, everyHost); ok {
		l.Warn("under load: initiators have to prove their address", zap.Uint64("messages", n))
	}
}

// UnknownPeer is called when an initiation came with a key that belongs to no peer and that its
// sender has proven to hold.
func (l *Log) UnknownPeer(now boottime.Time, key keys.PublicKey, from netip.AddrPort) {
	if n, ok := l.unknown.Open(now, everyHost); ok {
		l.Warn("handshake from an unknown peer: its public key is in no [[peer]] here",
			zap.Stringer("key", key), zap.Stringer("endpoint", from), zap.Uint64("times", n))
	}
}

// NoSwitch is called by lanes when a peer sends Ethernet to a tunnel without a TAP device.
func (l *Log) NoSwitch(p *peer.Peer, now boottime.Time) {
	if _, ok := l.noSwitch.Open(now, time.Second); ok {
		l.Peer(p, now, "peer wants to carry Ethernet, but there is no [tap] here")
	}
}

// RoutingLoop is called by lanes when a datagram to p came back from a device.
func (l *Log) RoutingLoop(p *peer.Peer, now boottime.Time) {
	if ep := p.Endpoint(); ep != nil && p.NoteLoop(now) {
		l.Peer(p, now, peer.LoopText(ep.Addr))
	}
}

// Moved is called by lanes when an authenticated datagram moved the peer's endpoint. It writes a
// message at most once in everyPeer for each peer.
func (l *Log) Moved(p *peer.Peer, to netip.AddrPort, now boottime.Time, wall time.Time) {
	if fields, ok := l.open(p.NoteRoamed(wall), now); ok {
		l.Later(func() {
			about := []zap.Field{zap.String("peer", p.DisplayName()), zap.Stringer("endpoint", to)}
			l.log.Info("peer moved", append(about, fields...)...)
		})
	}
}

// Peer writes a message about one peer, at most once in everyPeer.
func (l *Log) Peer(p *peer.Peer, now boottime.Time, msg string, fields ...zap.Field) {
	if counts, ok := l.open(p.LogEvery(), now); ok {
		fields = append([]zap.Field{zap.String("peer", p.DisplayName())}, fields...)
		l.Warn(msg, append(fields, counts...)...)
	}
}

// Ethernet writes a message of the switch about the named port. The switch limits messages that may
// repeat; the budget limits the others, which report changes of state that peers can cause.
func (l *Log) Ethernet(port string, now boottime.Time, msg string) {
	if counts, ok := l.spend(1, now); ok {
		l.Warn(msg, append([]zap.Field{zap.String("peer", port)}, counts...)...)
	}
}

// open reports whether an event about a peer may be logged now, and what to add about those that
// were not.
func (l *Log) open(every *limit.Every, now boottime.Time) (counts []zap.Field, ok bool) {
	n, ok := every.Open(now, everyPeer)
	if !ok {
		return nil, false
	}
	return l.spend(n, now)
}

// spend takes a message that represents n events from the budget.
func (l *Log) spend(n uint64, now boottime.Time) (counts []zap.Field, ok bool) {
	if !l.budget.Take(now, 1, budgetRate) {
		l.unsaid.Add(n)
		return nil, false
	}
	if n > 1 {
		counts = append(counts, zap.Uint64("suppressed", n-1))
	}
	if others := l.unsaid.Swap(0); others > 0 {
		counts = append(counts, zap.Uint64("suppressed_others", others))
	}
	return counts, true
}

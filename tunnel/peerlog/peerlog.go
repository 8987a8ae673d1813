// Package peerlog tells an operator in words why peers cannot be reached, seldom enough that nobody
// can fill a disk with it. Each message has an interval; what happens in between is counted and
// told with the next one.
//
// Nothing here is called per packet. The calls that lanes make pass an atomic check first and then
// leave an event in a bounded queue, which Run writes: a lane never waits for a log. Whatever a
// message says, the counters say as well.
package peerlog

import (
	"net/netip"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/internal/limit"
	"tund/tunnel/peer"
)

// Log is the reporter of one tunnel. It is safe for concurrent use.
type Log struct {
	log    *zap.Logger
	events chan func()

	wrongKey, refused, underLoad, unknown, noSwitch limit.Every
}

const (
	// everyPeer is the interval between messages about one peer.
	everyPeer = time.Minute
	// everyHost is the interval between messages of one kind that anybody can cause.
	everyHost = 10 * time.Second
	// maxEvents is the number of messages that wait for the log. Those beyond are lost.
	maxEvents = 64
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

// Later has f called by Run; when too many wait it is forgotten.
func (l *Log) Later(f func()) {
	select {
	case l.events <- f:
	default:
	}
}

// Warn writes a message, without waiting for the log.
func (l *Log) Warn(msg string, fields ...zap.Field) {
	l.Later(func() { l.log.Warn(msg, fields...) })
}

// Bug writes that a panic was caught in what, with the stack of the caller.
func (l *Log) Bug(what string, panicked any) {
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

// UnknownPeer is called when an initiation came from a key that is no peer's.
func (l *Log) UnknownPeer(now boottime.Time, key keys.PublicKey, from netip.AddrPort) {
	if n, ok := l.unknown.Open(now, everyHost); ok {
		l.Warn("handshake from an unknown peer: its public key is in no [[peer]] here",
			zap.String("key", key.Short()), zap.Stringer("endpoint", from), zap.Uint64("times", n))
	}
}

// NoSwitch is called by lanes when a peer speaks Ethernet to a tunnel without a TAP device.
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

// Moved is called by lanes when an authenticated datagram moved the peer's endpoint.
func (l *Log) Moved(p *peer.Peer, to netip.AddrPort, wall time.Time) {
	l.Later(func() {
		p.NoteRoamed(wall)
		l.log.Info("peer moved", zap.String("peer", p.DisplayName()), zap.Stringer("endpoint", to))
	})
}

// Peer writes a message about one peer, at most once in everyPeer.
func (l *Log) Peer(p *peer.Peer, now boottime.Time, msg string, fields ...zap.Field) {
	n, ok := p.LogEvery.Open(now, everyPeer)
	if !ok {
		return
	}
	fields = append([]zap.Field{zap.String("peer", p.DisplayName())}, fields...)
	if n > 1 {
		fields = append(fields, zap.Uint64("suppressed", n-1))
	}
	l.Warn(msg, fields...)
}

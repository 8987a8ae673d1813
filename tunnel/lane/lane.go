// Package lane carries packets: each lane is a device queue and a socket, with a loop for each
// direction that runs every step of a packet to completion. Data flows device → SendLoop → Batch →
// socket, and socket → ReceiveLoop → deviceWriter → device. Where layer 3 and layer 2 differ, a
// Forwarder decides; that of layer 3 is in this package (NewIPForwarder), that of layer 2 in
// tunnel/ethernet.
//
// A loop waits for its device or its socket and for nothing else: not for a peer, a log, a
// handshake or a timer. Work for others is passed through a bounded queue (Handshakes), an atomic
// word of the peer, or the heap of deadlines. A bad packet is a counted drop.
//
// The package does not establish sessions, choose addresses, or open devices and sockets. SendLoop,
// ReceiveLoop and Batch belong to one goroutine each; everything else is safe for concurrent use.
package lane

import (
	"errors"
	"net"
	"sync/atomic"

	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/udp"
)

// Lane is one socket and, for each device, one queue.
type Lane struct {
	ID       int
	Progress *watchdog.Progress // of the receive loop

	binding  atomic.Pointer[binding]
	reboundC chan struct{} // capacity 1: binding was replaced
}

// binding is a lane's socket. A new one replaces it when the UDP port changes.
type binding struct{ conn udp.Conn }

// New returns a lane with a socket.
func New(id int, conn udp.Conn, progress *watchdog.Progress) *Lane {
	l := &Lane{ID: id, Progress: progress, reboundC: make(chan struct{}, 1)}
	l.binding.Store(&binding{conn})
	return l
}

// Conn returns the socket in use.
func (l *Lane) Conn() udp.Conn { return l.binding.Load().conn }

// Rebind replaces the socket and returns the old one, which the caller has to close.
func (l *Lane) Rebind(conn udp.Conn) (old udp.Conn) {
	b := l.binding.Swap(&binding{conn})
	select {
	case l.reboundC <- struct{}{}:
	default:
	}
	return b.conn
}

// rebound decides what follows an error of the socket: it returns the socket that replaced it, or
// the same one to try again, or nil if the tunnel is closed.
func (l *Lane) rebound(env *Env, old *binding, err error) *binding {
	if !errors.Is(err, net.ErrClosed) {
		env.Drops.Add(drop.ReceiveError, 1)
		env.pause()
		return l.binding.Load()
	}
	for {
		b := l.binding.Load()
		if env.Stopped() {
			return nil
		}
		if b != old {
			return b
		}
		select {
		case <-env.Stop:
			return nil
		case <-l.reboundC:
		}
	}
}

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
	"sync/atomic"

	"tund/internal/watchdog"
	"tund/tunnel/udp"
)

// Lane is one socket and, for each device, one queue.
type Lane struct {
	ID      int
	binding atomic.Pointer[binding]
}

// binding is a lane's socket, with the progress of the loop that receives from it. A new one
// replaces it when the UDP port changes.
type binding struct {
	conn     udp.Conn
	progress *watchdog.Progress
}

// New returns a lane with a socket, and the progress of its receive loop.
func New(id int, conn udp.Conn, progress *watchdog.Progress) *Lane {
	l := &Lane{ID: id}
	l.binding.Store(&binding{conn, progress})
	return l
}

// Conn returns the socket in use.
func (l *Lane) Conn() udp.Conn { return l.binding.Load().conn }

// Rebind replaces the socket, through which everything is sent from now on, and returns the old
// one, which the caller has to close: until then its loop goes on receiving from it. What comes to
// the new socket is received by a ReceiveLoop that is made afterwards.
func (l *Lane) Rebind(conn udp.Conn, progress *watchdog.Progress) (old udp.Conn) {
	return l.binding.Swap(&binding{conn, progress}).conn
}

package tunnel

import (
	"testing"
	"time"

	"tund/crypto/wire"
	"tund/tunnel/udp"
	"tund/tunnel/udp/udptest"
)

// stuckConn is a socket whose senders wait, with handshake messages to one address, until they are
// let go.
type stuckConn struct {
	udp.Conn
	stuck func(udp.Run) bool
	waits chan struct{} // one for each that waits
	free  chan struct{} // closed: nobody waits
}

func (c *stuckConn) NewSender() udp.Sender { return stuckSender{c.Conn.NewSender(), c} }

type stuckSender struct {
	udp.Sender
	conn *stuckConn
}

func (s stuckSender) Send(runs []udp.Run) {
	for i := range runs {
		if s.conn.stuck(runs[i]) {
			s.conn.waits <- struct{}{}
			<-s.conn.free
		}
	}
	s.Sender.Send(runs)
}

// A lane waits for nothing but its device and its socket: while a handshake worker is stuck in a
// send to one peer, the session of another is confirmed, what it sends arrives, and what was staged
// for it leaves.
func TestLanes_waitForNoHandshake(t *testing.T) {
	inBubble(t, func(w *world) {
		hub, slow, good := w.end(), w.end(), w.end()
		hub.tun.Close()
		conn := &stuckConn{waits: make(chan struct{}, 64), free: make(chan struct{})}
		conn.stuck = func(r udp.Run) bool {
			kind, _ := wire.Kind(r.Buf)
			return r.To.Addr == slow.addr && kind != wire.TypeTransport
		}
		w.startWith(hub, w.clock, func(o *Options) {
			conn.Conn = o.Conns[0]
			o.Conns = []udp.Conn{conn}
		})
		for _, e := range []*end{slow, good} {
			hub.knows(e, false)
			e.knows(hub, true)
		}
		// Good has a session, and the hub does not know so yet.
		w.net.Filter(func(d udptest.Datagram) error {
			kind, _ := wire.Kind(d.Payload)
			if d.From == good.addr && kind == wire.TypeTransport || d.From == hub.addr && kind == wire.TypeInitiation {
				return udptest.Lost
			}
			return nil
		})
		good.sends(hub, 10)
		hub.sends(good, 10) // staged
		slow.sends(hub, 10)
		<-conn.waits
		w.net.Filter(nil)
		good.sends(hub, 10)
		hub.expect(1, "while the response to another peer is being sent")
		good.expect(1, "what was staged, while the response to another peer is being sent")
		hub.sends(good, 10)
		good.expect(1, "while the response to another peer is being sent")
		close(conn.free)
		passes(6 * time.Second)
		hub.expect(1, "from the peer that was waited for")
	})
}

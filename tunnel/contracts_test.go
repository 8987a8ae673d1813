package tunnel

import (
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/crypto/wire"
	"tund/tunnel/l2"
	"tund/tunnel/udp"
	"tund/tunnel/udp/udptest"
)

// stuckConn is a socket whose senders wait, with handshake messages to one address, until they are let go.
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

// A lane waits for nothing but its device and its socket: while a handshake worker is stuck in a send to one peer, the session
// of another is confirmed, what it sends arrives, and what was staged for it leaves.
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
		w.net.Filter(func(d udptest.Datagram) error { // good has a session, and the hub does not know so yet
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

// A change that changes nothing is not noticed by any peer.
func TestConfigure_unchangedPortsAreLeftAlone(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.tap(), w.tap()
		a.configure(lan(b))
		b.configure(lan(a))
		passes(5 * time.Second)
		if n := a.broadcasts(1, b); n != 1 {
			t.Fatalf("%d frames arrived, want 1", n)
		}
		rec := w.record()
		for range 3 {
			a.configure(lan(b))
		}
		passes(500 * time.Millisecond)
		if sent := rec.take(0); len(sent) != 0 {
			t.Errorf("%d datagrams were sent because of an unchanged configuration", len(sent))
		}
		changed := lan(b)
		changed.Peers[0].Ethernet.VLANs = []uint16{0, 7}
		a.configure(changed)
		passes(500 * time.Millisecond)
		if sent := rec.take(0); len(sent) == 0 {
			t.Error("the peer was told nothing of a change")
		}
	})
}

// Configure refuses a change as a whole, also for what the switch would refuse.
func TestConfigure_refusedPortsChangeNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b, c := w.tap(), w.end(), w.end()
		a.configure(lan(b, 2))
		key, name := newKey(t), "renamed"
		pin := func(e *end) PeerChange {
			return PeerChange{PublicKey: e.key.Public(), Name: &name, Ethernet: &l2.PortConfig{Ethernet: true, MACs: []l2.MAC{3}}}
		}
		refused := Change{PrivateKey: &key, Peers: []PeerChange{pin(b), pin(c)}}
		if a.tun.Fits(refused) == nil || a.tun.Configure(refused) == nil {
			t.Fatal("one MAC was pinned to two peers")
		}
		s := a.tun.Status()
		if s.PublicKey != a.key.Public() || len(s.Peers) != 1 || s.Peers[0].Name != "other" {
			t.Errorf("a refused change was applied in part: %d peers, the first is %q", len(s.Peers), s.Peers[0].Name)
		}
		if n := a.tun.lan.Switch().Ports(w.clock.Now()); len(n) != 2 {
			t.Errorf("%d ports, want the device and one peer", len(n))
		}
		// The same MAC may pass from a peer that the change removes.
		moved := pin(c)
		moved.Ethernet.MACs[0] = 2
		if err := a.tun.Configure(Change{Peers: []PeerChange{moved, {PublicKey: b.key.Public(), Remove: true}}}); err != nil {
			t.Error(err)
		}
	})
}

// What is dropped of a peer is counted for that peer, at layer 3 as well, and by one counter only.
func TestStatus_dropsByPeer(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		c := w.end()
		b.knows(c, false)
		for range 3 {
			a.queue.Inject(packet(c.inner, b.inner, 10)) // c's source
		}
		b.queue.Inject(packet(b.inner, c.inner, 10)) // nobody knows where c is
		synctest.Wait()
		drops := map[keys.PublicKey]map[string]uint64{}
		for _, p := range b.tun.Status().Peers {
			drops[p.PublicKey] = p.Drops
		}
		if got := drops[a.key.Public()]; got["foreign-source"] != 3 || len(got) != 1 {
			t.Errorf("drops of the sender: %v, want 3 for their source", got)
		}
		if got := drops[c.key.Public()]; got["no-endpoint"] != 1 || len(got) != 1 {
			t.Errorf("drops of a peer without an endpoint: %v, want 1", got)
		}
	})
}

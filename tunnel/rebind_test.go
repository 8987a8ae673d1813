package tunnel

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/tunnel/udp"
	"tund/tunnel/udp/udptest"
)

func TestLoops_rebindKeepsSessions(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		there := netip.AddrPortFrom(a.addr.Addr(), 40000)
		conn, err := w.net.Open(there)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.tun.Rebind([]udp.Conn{conn}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := b.endpointOf(a); got != there {
			t.Errorf("the peer was not told of %v, it is still at %v", there, got)
		}
		b.sends(a, 10)
		a.expect(1, "at the new port")
		a.sends(b, 10)
		b.expect(1, "from the new port")
		if i, _, _, _, _ := w.ears.take(); i != 0 {
			t.Errorf("%d handshakes for a new port", i)
		}
		if got := a.tun.Status().ListenPort; got != 40000 {
			t.Errorf("ListenPort = %d", got)
		}
		if err := a.tun.Rebind(nil); err == nil {
			t.Error("Rebind without sockets succeeds")
		}
		passes(lingering)
		for range 3 { // there and back, while packets flow
			back, err := w.net.Open(a.addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.tun.Rebind([]udp.Conn{back}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			b.sends(a, 10)
			a.expect(1, "after another Rebind")
			passes(lingering)
			if back, err = w.net.Open(there); err != nil {
				t.Fatal(err)
			}
			if err := a.tun.Rebind([]udp.Conn{back}); err != nil {
				t.Fatal(err)
			}
			passes(lingering)
		}
	})
}

// What is on its way to the old port arrives, and so does what waits there.
func TestLoops_rebindLosesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		w.net.Set(udptest.Conditions{Latency: 200 * time.Millisecond})
		const sent = 3000
		got := 0
		for n := range sent {
			b.queue.Inject(packet(b.inner, a.inner, 10))
			passes(time.Millisecond)
			if n%100 == 0 {
				got += a.got()
			}
			// Twice within half a second, while the answers to the first are on their way.
			if n == 300 || n == 900 || n == 2000 || n == 2150 || n == 2400 {
				a.rebinds(w, uint16(40000+n))
			}
		}
		passes(time.Second)
		if got += a.got(); got != sent {
			t.Errorf("%d of %d packets arrived over five changes of the port", got, sent)
		}
		for port := range uint16(100) { // one before the other is over
			a.rebinds(w, 50000+port)
			passes(lingering / 3)
		}
		if w := a.tun.env.Taps.NewWriter(); w == 0 || w > 3+maxFormer { // 0: there are none left
			t.Errorf("the loops of sockets that are closed keep their rings of captures: the next is %d", w)
		}
		passes(time.Second)
		b.sends(a, 10)
		passes(time.Second)
		a.expect(1, "after a hundred changes")
		for _, beat := range a.tun.Pulse() {
			if !beat.Idle {
				t.Errorf("%s does not rest", beat.Loop)
			}
		}
	})
}

// rebinds changes the UDP port of e.
func (e *end) rebinds(w *world, port uint16) {
	e.t.Helper()
	conn, err := w.net.Open(netip.AddrPortFrom(e.addr.Addr(), port))
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.tun.Rebind([]udp.Conn{conn}); err != nil {
		e.t.Fatal(err)
	}
}

// overflowing is a socket whose receive buffer has overflowed.
type overflowing struct {
	udp.Conn
	n uint64
}

func (c overflowing) Overflows() uint64 { return c.n }

// The counters of a socket that is replaced are not forgotten.
func TestLoops_rebindKeepsCounters(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.end()
		for i := range 3 {
			conn, err := w.net.Open(netip.AddrPortFrom(a.addr.Addr(), uint16(1000+i)))
			if err != nil {
				t.Fatal(err)
			}
			if err := a.tun.Rebind([]udp.Conn{overflowing{conn, 5}}); err != nil {
				t.Fatal(err)
			}
			if n := a.tun.Status().Drops["queue-overflow"]; n != uint64(5*(i+1)) {
				t.Errorf("queue-overflow = %d, want %d", n, 5*(i+1))
			}
		}
	})
}

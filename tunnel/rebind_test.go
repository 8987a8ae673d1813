package tunnel

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"tund/tunnel/udp"
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
			if back, err = w.net.Open(there); err != nil {
				t.Fatal(err)
			}
			if err := a.tun.Rebind([]udp.Conn{back}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
	})
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

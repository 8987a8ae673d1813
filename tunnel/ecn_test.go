package tunnel

import (
	"testing"
	"testing/synctest"

	"tund/internal/drop"
	"tund/tunnel/lane"
	"tund/tunnel/udp/udptest"
)

// withClass returns a packet from e to other with a traffic class. Its checksum is wrong, as
// nobody here looks at it.
func (e *end) withClass(other *end, class byte) []byte {
	p := packet(e.inner, other.inner, 64)
	p[1] = class
	return p
}

// TestECN_crossesTheTunnel: datagrams show what the ends understand, and a mark that they get on
// the way reaches the packet inside; a packet whose ends do not understand it does not arrive.
func TestECN_crossesTheTunnel(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		var outer byte
		w.net.Watch(func(d udptest.Datagram) { outer = d.Class })
		for _, c := range []struct {
			inner, dscp int
			congested   bool
			outer       byte
			arrives     int // class, -1: it is lost
		}{
			{0, 0, false, 0, 0}, {1, 0, false, 1, 1}, {2, 0, false, 2, 2}, {3, 0, false, 3, 3},
			{46<<2 | 1, 0, false, 1, 46<<2 | 1},
			{46<<2 | 1, 8, false, 8<<2 | 1, 46<<2 | 1},
			{46<<2 | 1, lane.CopyDSCP, true, 46<<2 | 1, 46<<2 | 3},
			{2, 0, true, 2, 3}, {0, 0, true, 0, -1},
		} {
			a.tun.SetDSCP(c.dscp)
			w.net.Set(udptest.Conditions{Congested: c.congested})
			a.queue.Inject(a.withClass(b, byte(c.inner)))
			synctest.Wait()
			if outer != c.outer {
				t.Errorf("%+v: the datagram has class %#02x", c, outer)
			}
			if got := b.classes(); c.arrives < 0 && len(got) != 0 || c.arrives >= 0 && (len(got) != 1 || int(got[0]) != c.arrives) {
				t.Errorf("%+v: classes %#x arrived", c, got)
			}
		}
		if n := b.dropped(drop.Congestion); n != 1 {
			t.Errorf("%d packets counted as dropped for congestion, want 1", n)
		}
	})
}

// classes returns the traffic classes of the packets that e's host got since the last call.
func (e *end) classes() (out []byte) {
	for {
		select {
		case f := <-e.queue.Written():
			out = append(out, f[10+1])
		default:
			return out
		}
	}
}

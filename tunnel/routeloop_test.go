package tunnel

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/wire"
	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

// datagram makes an IPv4 or IPv6 packet around a UDP payload.
func datagram(from, to netip.AddrPort, payload []byte) []byte {
	u := make([]byte, 8+len(payload))
	binary.BigEndian.PutUint16(u, from.Port())
	binary.BigEndian.PutUint16(u[2:], to.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[8:], payload)
	if from.Addr().Is4() {
		p := packet(from.Addr(), to.Addr(), len(u))
		p[9] = 17
		copy(p[20:], u)
		return p
	}
	p := make([]byte, 40+len(u))
	p[0], p[6], p[7] = 0x60, 17, 64
	binary.BigEndian.PutUint16(p[4:], uint16(len(u)))
	copy(p[8:], from.Addr().AsSlice())
	copy(p[24:], to.Addr().AsSlice())
	copy(p[40:], u)
	return p
}

// reroute leads what e sends to any of the addresses into e's device, as a route would, and returns
// how many datagrams went that way.
func (w *world) reroute(e *end, to ...netip.AddrPort) (count func() int) {
	n := 0
	w.net.Filter(func(d udptest.Datagram) error {
		for _, addr := range to {
			if d.From == e.addr && d.To == addr {
				n++
				e.queue.Inject(datagram(d.From, d.To, d.Payload))
				return udptest.Lost
			}
		}
		return nil
	})
	return func() int { was := n; n = 0; return was }
}

// covers makes e's allowed IPs for other include the addresses.
func (e *end) covers(other *end, addrs ...netip.AddrPort) {
	e.t.Helper()
	e.knows(other, true, func(c *PeerChange) {
		for _, a := range addrs {
			c.AllowedIPs = append(c.AllowedIPs, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
		}
	})
}

func TestTunnel_routeIntoItselfEndsInAWordAndNotInALoop(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.covers(b, b.addr)
		b.knows(a, false)
		a.tun.SetLocalAddresses([]netip.Addr{a.inner, a.addr.Addr()})
		a.sends(b, 1000)
		b.expect(1, "before")
		w.ears.ignore(a.addr)
		looped := w.reroute(a, b.addr)
		for range 10 {
			a.sends(b, 1000)
		}
		if n := looped(); n != 10 {
			t.Errorf("%d datagrams came back for 10 packets, want 10", n)
		}
		p := a.tun.Status().Peers[0]
		if want := "come back to us: a route or an allowed IP leads"; !strings.Contains(p.LastError, want) || p.State != StateUp {
			t.Errorf("state %s, last error %q, want %q", p.State, p.LastError, want)
		}
		time.Sleep(200 * time.Second) // the session ends; initiations come back, too
		a.sends(b, 1000)
		time.Sleep(6 * time.Second)
		p = a.tun.Status().Peers[0]
		if want := "come back to us"; !strings.Contains(p.LastError, want) || p.State != StateDown {
			t.Errorf("state %s, last error %q, want %q", p.State, p.LastError, want)
		}
		if n := looped(); n > 60 {
			t.Errorf("%d datagrams came back in 200 s", n)
		}
		w.net.Filter(nil)
		time.Sleep(peer.LoopMemory)
		a.sends(b, 10)
		time.Sleep(10 * time.Second)
		if p := a.tun.Status().Peers[0]; p.State != StateUp || p.LastError != "" {
			t.Errorf("after the route has gone: state %s, last error %q", p.State, p.LastError)
		}
	})
}

func TestTunnel_tunnelInATunnelWorksOneLevelDeep(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b, c := w.end(), w.end(), w.end()
		a.covers(b, c.addr) // c is reached through b
		a.knows(c, true)
		b.knows(a, false, func(p *PeerChange) { p.AllowedIPs = append(p.AllowedIPs, netip.PrefixFrom(a.addr.Addr(), 32)) })
		c.knows(a, false)
		looped := w.reroute(a, c.addr)
		a.sends(c, 100)
		b.expect(1, "the initiation for c")
		if n, drops := looped(), a.tun.Status().Drops; n != 1 || drops["routing-loop"] != 0 {
			t.Errorf("%d datagrams through the device, drops %v", n, drops)
		}
		a.covers(c, b.addr) // and now b through c
		looped = w.reroute(a, b.addr, c.addr)
		time.Sleep(peer.LoopMemory)
		for range 10 {
			a.sends(b, 1000)
			a.sends(c, 1000)
		}
		if n := looped(); n > 60 {
			t.Errorf("a ring of two peers sent %d datagrams for 20 packets", n)
		}
		if a.tun.Status().Drops["routing-loop"] == 0 {
			t.Error("nothing was refused")
		}
	})
}

func TestTunnel_datagramsOfOthersAreNoEchoes(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.covers(b, b.addr)
		b.knows(a, false, func(p *PeerChange) { p.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} })
		a.tun.SetLocalAddresses([]netip.Addr{a.inner})
		data := make([]byte, 64)
		data[0] = wire.TypeTransport
		text := append([]byte("\x04 is no message"), make([]byte, 50)...)
		behind := netip.MustParseAddrPort("10.1.1.1:51820")
		ours := netip.AddrPortFrom(a.inner, 51820)
		for _, c := range []struct {
			what     string
			from, to netip.AddrPort
			payload  []byte
			arrive   int
		}{
			{"a WireGuard client behind us", behind, b.addr, data, 1},
			{"another port of ours", netip.AddrPortFrom(a.inner, 1), b.addr, data, 1},
			{"another payload", ours, b.addr, text, 1},
			{"an endpoint of nobody", ours, netip.AddrPortFrom(b.inner, 7), data, 1},
			{"an echo", ours, b.addr, data, 0},
		} {
			a.queue.Inject(datagram(c.from, c.to, c.payload))
			synctest.Wait()
			b.expect(c.arrive, c.what)
		}
	})
}

func TestTunnel_pulseShowsWhoIsStuck(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		synctest.Wait()
		first := a.tun.Pulse()
		a.sends(b, 10)
		time.Sleep(10 * time.Second)
		synctest.Wait() // the keepalive of this very moment is through
		second := a.tun.Pulse()
		if len(first) < 4 || len(first) != len(second) {
			t.Fatalf("%d and %d loops", len(first), len(second))
		}
		for i := range first {
			if second[i].Stuck(first[i]) || !second[i].Idle {
				t.Errorf("%+v, before %+v", second[i], first[i])
			}
			moved := second[i].Count != first[i].Count
			// The extensions have nothing to do here, and no port has changed.
			want := !strings.HasPrefix(second[i].Loop, "handshakes") && second[i].Loop != "extensions" &&
				!strings.HasSuffix(second[i].Loop, "change of port")
			if want && !moved {
				t.Errorf("%s did not move", second[i].Loop)
			}
		}
	})
}

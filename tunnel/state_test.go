package tunnel

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tund/crypto/wire"
	"tund/tunnel/timers"
	"tund/tunnel/udp/udptest"
)

// told is the status of the only peer of e.
func (e *end) told() PeerStatus { return e.tun.Status().Peers[0] }

// pings sends a packet from e to other each half second for a while; an echo comes back for each
// that arrives.
func (e *end) pings(other *end, d time.Duration) { e.pingsOf(other, 10, d) }

// pingsOf is pings with packets of a size.
func (e *end) pingsOf(other *end, size int, d time.Duration) {
	e.t.Helper()
	for began := time.Now(); time.Since(began) < d; {
		e.sends(other, size)
		if other.got() > 0 {
			other.sends(e, size)
		}
		passes(500 * time.Millisecond)
	}
	e.got()
}

// within returns how long it takes while e pings other until f is true, at most limit.
func (e *end) within(limit time.Duration, other *end, f func() bool) time.Duration {
	e.t.Helper()
	for began := time.Now(); time.Since(began) < limit; e.pings(other, 500*time.Millisecond) {
		if f() {
			return time.Since(began)
		}
	}
	return limit
}

// refuseTo is a filter by which the kernel refuses to send to some addresses.
func refuseTo(err error, addrs ...netip.AddrPort) func(udptest.Datagram) error {
	return func(d udptest.Datagram) error {
		for _, a := range addrs {
			if d.To == a {
				return err
			}
		}
		return nil
	}
}

// Keys are good for three minutes; a peer that died is down when two handshakes had no response: 15
// s after the first unanswered packet the first of them, and 5 s and a bit for each.
func TestState_deadPeerIsDownAlthoughItsKeysAreValid(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		a.pings(b, 10*time.Second)
		died := time.Now()
		w.net.Filter(func(udptest.Datagram) error { return udptest.Lost })
		limit := timers.UnansweredAfter + 2*timers.RekeyTimeout + 3*timers.RekeyTimeoutJitterMax + time.Second
		if took := a.within(time.Minute, b, func() bool { return a.told().State == StateDown }); took > limit {
			t.Fatalf("down after %v, want at most %v", took, limit)
		}
		s := a.told()
		if s.Session == nil || !strings.HasPrefix(s.LastError, "no answer from "+b.addr.String()) {
			t.Errorf("session %v, last error %q", s.Session, s.LastError)
		}
		if since := s.Since.Sub(died); since < 0 || since > timers.UnansweredAfter+time.Second {
			t.Errorf("down since %v after its death", since)
		}
		a.pings(b, 4*time.Minute) // whatever ends meanwhile: keys, attempts
		if s := a.told(); s.State != StateDown || s.LastError == "" {
			t.Errorf("later: %s, %q", s.State, s.LastError)
		}
		w.net.Filter(nil)
		back := time.Now()
		a.within(time.Minute, b, func() bool { return a.told().State == StateUp })
		if s := a.told(); s.State != StateUp || s.LastError != "" || s.Since.Before(back) {
			t.Errorf("after it came back: %s since %v, %q", s.State, s.Since, s.LastError)
		}
	})
}

// Whoever is heard is there, however many handshakes get lost; and one loss says nothing.
func TestState_peerThatSpeaksIsUp(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		w.net.Filter(func(d udptest.Datagram) error {
			if k, _ := wire.Kind(d.Payload); k != wire.TypeTransport {
				return udptest.Lost
			}
			return nil
		})
		for range 340 { // the renewal fails from 120 s on
			a.pings(b, 500*time.Millisecond)
			if s := a.told(); s.State != StateUp {
				t.Fatalf("%s after %v: %q", s.State, s.Session.Age, s.LastError)
			}
		}
		if a.told().Attempts < silentAttempts {
			t.Errorf("%d attempts failed, so nothing was tested", a.told().Attempts)
		}
	})
}

// silentAttempts is after how many handshakes a silent peer is down.
const silentAttempts = 2

// Nothing was asked, so nothing is missing.
func TestState_peerWithNothingToAnswerIsUp(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		a.pings(b, 2*time.Second)
		passes(timers.KeepaliveTimeout + time.Second)
		w.net.Filter(func(udptest.Datagram) error { return udptest.Lost })
		passes(2 * time.Minute)
		if s := a.told(); s.State != StateUp {
			t.Errorf("%s: %q", s.State, s.LastError)
		}
	})
}

// What the kernel refuses is counted at the peer and said in words at once; when it refuses all for
// long the peer is down, and up with the first datagram that leaves.
func TestState_refusedDatagrams(t *testing.T) {
	for errno, words := range map[syscall.Errno]string{
		unix.EPERM: "firewall of this host", unix.ENETUNREACH: "no route there", unix.EHOSTUNREACH: "unreachable",
		unix.EACCES: "prohibit", unix.EINVAL: "blackhole",
	} {
		inBubble(t, func(w *world) {
			a, b := w.connected()
			a.pings(b, 10*time.Second)
			// Without the source address that the kernel refused, the same is sent again.
			w.ears.ignore(a.addr)
			w.net.Filter(refuseTo(errno, b.addr))
			a.pings(b, time.Second)
			s := a.told()
			if s.State != StateUp || s.Drops["send-error"] == 0 || !strings.Contains(s.LastError, words) {
				t.Errorf("%v at once: %s, %d drops, %q", errno, s.State, s.Drops["send-error"], s.LastError)
			}
			if took := a.within(time.Minute, b, func() bool { return a.told().State == StateDown }); took > 16*time.Second {
				t.Errorf("%v: down after %v, want 15 s", errno, took)
			}
			if s := a.told(); !strings.HasPrefix(s.LastError, "cannot send to "+b.addr.String()) || !strings.Contains(s.LastError, words) {
				t.Errorf("%v: %q", errno, s.LastError)
			}
			a.pings(b, time.Minute)
			w.net.Filter(nil)
			if took := a.within(time.Minute, b, func() bool { return a.told().State == StateUp }); took > time.Second {
				t.Errorf("%v: up %v after the mend", errno, took)
			}
		})
	}
}

// Datagrams that are too large, or for which a queue has no room, do not make a peer unreachable.
func TestState_refusalsOfSomeDatagramsOnly(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EMSGSIZE, unix.ENOBUFS} {
		inBubble(t, func(w *world) {
			a, b := w.connected()
			w.net.Filter(func(d udptest.Datagram) error {
				if k, _ := wire.Kind(d.Payload); k == wire.TypeTransport && d.To == b.addr && len(d.Payload) > 100 {
					return errno
				}
				return nil
			})
			for range 60 {
				a.sends(b, 1000)
				b.sends(a, 10)
				passes(500 * time.Millisecond)
			}
			if s := a.told(); s.State != StateUp {
				t.Errorf("%v: %s, %q", errno, s.State, s.LastError)
			}
		})
	}
}

// An endpoint without a route costs no time when there is another: at the first handshake, and when
// its route goes away while a session is up.
func TestState_refusedEndpointIsLeftAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		six, four := netip.MustParseAddrPort("[2001:db8::9]:51820"), netip.MustParseAddrPort("198.51.100.77:51820")
		second := netip.MustParseAddrPort("203.0.113.2:51820")
		b.conn.Move(b.addr, second)
		a.knows(b, false, func(c *PeerChange) { c.Endpoints = []netip.AddrPort{six, four, b.addr, second} })
		b.knows(a, false)
		w.net.Filter(refuseTo(unix.ENETUNREACH, six, four))
		a.sends(b, 10)
		b.expect(1, "first packet, in no time")
		passes(10 * time.Second)
		w.net.Filter(refuseTo(unix.ENETUNREACH, six, four, b.addr))
		a.sends(b, 10) // is lost, and makes us look
		passes(10 * time.Millisecond)
		a.sends(b, 10)
		b.expect(1, "second packet, after the route to the endpoint is gone")
		if got := a.endpointOf(b); got != second {
			t.Errorf("endpoint %v, want %v", got, second)
		}
	})
}

// Where all are refused each is tried once for a handshake, no more.
func TestState_allEndpointsRefused(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		list := []netip.AddrPort{b.addr, netip.MustParseAddrPort("198.51.100.77:1"), netip.MustParseAddrPort("198.51.100.78:1")}
		a.knows(b, false, func(c *PeerChange) { c.Endpoints = list })
		tries := map[netip.AddrPort]int{}
		w.net.Filter(func(d udptest.Datagram) error {
			tries[d.To]++
			return unix.ENETUNREACH
		})
		a.sends(b, 10)
		synctest.Wait()
		if len(tries) != 3 || tries[list[0]] != 1 || tries[list[1]] != 1 || tries[list[2]] != 1 {
			t.Errorf("tries by endpoint: %v, want one each", tries)
		}
		if s := a.told(); !strings.Contains(s.LastError, "no route there") {
			t.Errorf("at once: %q", s.LastError)
		}
	})
}

// Handshakes succeed, and nothing else comes: something on the way drops data. The peer is down
// after half a minute, and up again with the first message.
func TestState_aPeerWhoseDataIsDroppedOnTheWayIsDown(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		r := w.record()
		r.hold(func(d udptest.Datagram) bool { return !isHandshake(d) && d.From == b.addr })
		down := time.Duration(0)
		for i := range 120 {
			a.sends(b, 10)
			b.sends(a, 10)
			passes(time.Second)
			if down == 0 && a.tun.PeerState(b.key.Public()) == StateDown {
				down = time.Duration(i+1) * time.Second
			}
		}
		if down < 25*time.Second || down > 35*time.Second {
			t.Errorf("down after %v, want half a minute", down)
		}
		s := a.tun.Status().Peers[0]
		if since := time.Since(s.Since); s.State != StateDown || !strings.Contains(s.LastError, "nothing comes in our sessions") ||
			since < 115*time.Second || since > 121*time.Second {
			t.Errorf("%s since %v, %q", s.State, since, s.LastError)
		}
		r.hold(nil)
		b.sends(a, 10)
		if s := a.tun.Status().Peers[0]; s.State != StateUp {
			t.Errorf("%s, %q when it is heard again", s.State, s.LastError)
		}
	})
}

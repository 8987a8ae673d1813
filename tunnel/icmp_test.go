package tunnel

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tund/tunnel/peer"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// hears gives e an ICMP report about other, as ICMP would.
func (e *end) hears(other *end, errno syscall.Errno) {
	e.conn.ReceiveICMP(udp.ICMPReport{To: other.addr, Errno: errno})
}

// A peer is killed and is back within a second; only our side speaks. Without reports that takes 15
// s.
func TestICMP_restartedPeerIsFoundAtOnce(t *testing.T) {
	for _, down := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 900 * time.Millisecond} {
		inBubble(t, func(w *world) {
			a, b := w.connected()
			passes(20 * time.Second)
			for range 10 { // a ping each 200 ms
				a.sends(b, 10)
				b.sends(a, 10)
				passes(200 * time.Millisecond)
			}
			b.tun.Close()
			killed, back := time.Now(), time.Duration(0)
			for back == 0 && time.Since(killed) < 20*time.Second {
				a.queue.Inject(packet(a.inner, b.inner, 10))
				synctest.Wait()
				if time.Since(killed) < down {
					a.hears(b, unix.ECONNREFUSED)
				} else if b.tun.env.Stopped() {
					w.start(b)
					b.knows(a, false)
				}
				passes(50 * time.Millisecond)
				if !b.tun.env.Stopped() && b.got() > 0 {
					back = time.Since(killed)
				}
			}
			if back == 0 || back > 6*time.Second {
				t.Errorf("down for %v: back after %v, want at most 6 s", down, back)
			}
			t.Logf("down for %v: back after %v", down, back)
		})
	}
}

// Forged reports about a peer that speaks cause nothing at all.
func TestICMP_aboutAPeerThatSpeaksIsIgnored(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(20 * time.Second)
		session := a.peerOf(b).Current()
		w.ears.take()
		for range 60 * 4 {
			a.sends(b, 10)
			b.sends(a, 10)
			for range 5 {
				a.hears(b, unix.ECONNREFUSED)
				b.hears(a, unix.EHOSTUNREACH)
			}
			passes(250 * time.Millisecond)
		}
		a.expect(240, "a")
		b.expect(240, "b")
		if i, r, _, _, _ := w.ears.take(); i+r != 0 {
			t.Errorf("%d handshakes for forged reports", i)
		}
		if a.peerOf(b).Current() != session || a.endpointOf(b) != b.addr {
			t.Error("forged reports ended the session or moved the endpoint")
		}
	})
}

// About a silent one they cause a handshake now and then, which succeeds, and nothing is lost.
func TestICMP_forgedOnesCostAHandshakeInFiveSecondsAtMost(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(20 * time.Second)
		seen := w.times()
		for range 60 * 10 {
			a.sends(b, 10)
			a.hears(b, unix.ECONNREFUSED)
			passes(100 * time.Millisecond)
		}
		b.expect(600, "one way")
		got := seen.initiations(a)
		if len(got) < 2 || len(got) > 13 {
			t.Errorf("%d handshakes in 60 s", len(got))
		}
		for i := range got[1:] {
			if gap := got[i+1] - got[i]; gap < timers.RekeyTimeout {
				t.Errorf("handshakes %v apart", gap)
			}
		}
		if a.endpointOf(b) != b.addr {
			t.Error("forged reports moved the endpoint")
		}
		if s := a.tun.Status().Peers[0]; s.State != StateUp {
			t.Errorf("state %s", s.State)
		}
	})
}

// A peer with which nothing is going on is not woken.
func TestICMP_aboutAnIdlePeerIsIgnored(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		c := w.end()
		a.knows(c, true)
		passes(40 * time.Second)
		w.ears.take()
		for range 300 {
			a.hears(b, unix.ECONNREFUSED)
			a.hears(c, unix.EHOSTUNREACH)
			a.conn.ReceiveICMP(udp.ICMPReport{To: netip.MustParseAddrPort("203.0.113.77:1"), Errno: unix.ECONNREFUSED})
			passes(time.Second)
		}
		if i, r, k, data, empty := w.ears.take(); i+r+k+data+empty != 0 {
			t.Errorf("reports woke idle peers: %d %d %d %d %d", i, r, k, data, empty)
		}
	})
}

// No sooner than RekeyTimeout after the last handshake, and the wish is not lost until then.
func TestICMP_waitsForRekeyTimeout(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		passes(2 * time.Second)
		seen := w.times()
		seen.lose(fromAddr(b.addr))
		a.sends(b, 10)
		a.hears(b, unix.ECONNREFUSED)
		passes(2900 * time.Millisecond)
		if got := seen.initiations(a); len(got) != 0 {
			t.Errorf("handshake at %v after one at -2 s", got)
		}
		passes(200 * time.Millisecond)
		if got := seen.initiations(a); len(got) != 1 {
			t.Errorf("handshakes at %v, want one at 3 s", got)
		}
	})
}

func TestICMP_fillsInTheWords(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		seen := w.times()
		seen.lose(everything)
		a.sends(b, 10)
		for errno, words := range map[syscall.Errno]string{
			unix.ECONNREFUSED: "port unreachable", unix.EHOSTUNREACH: "no route to host",
			unix.ENETUNREACH: "network unreachable", unix.EACCES: "forbidden by a router", unix.EPROTO: "protocol error",
		} {
			a.hears(b, errno)
			passes(timers.RekeyTimeout + timers.RekeyTimeoutJitterMax)
			got := a.tun.Status().Peers[0].LastError
			if !strings.HasPrefix(got, "no answer from "+b.addr.String()) || !strings.Contains(got, words) {
				t.Errorf("%v: %q", errno, got)
			}
		}
		passes(timers.RekeyTimeout + timers.RekeyTimeoutJitterMax)
		if got := a.tun.Status().Peers[0].LastError; strings.Contains(got, "protocol error") {
			t.Errorf("a try later still %q", got)
		}
	})
}

// While the peer is up the words are shown until it speaks, or for a while.
func TestICMP_wordsOfAPeerThatIsUp(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		say := func() string { return a.tun.Status().Peers[0].LastError }
		passes(time.Second)
		a.hears(b, unix.EHOSTUNREACH)
		synctest.Wait()
		if got, want := say(), "no answer from "+b.addr.String()+": no route to host"; !strings.HasPrefix(got, want) {
			t.Errorf("LastError = %q", got)
		}
		passes(time.Second)
		b.sends(a, 10)
		if got := say(); got != "" {
			t.Errorf("LastError = %q after the peer spoke", got)
		}
		a.hears(b, unix.EHOSTUNREACH)
		passes(peer.ICMPShown)
		if got := say(); got != "" {
			t.Errorf("LastError = %q after %v", got, peer.ICMPShown)
		}
	})
}

// However many there are, the peer is heard and the session stays; and a link-local endpoint is
// found by them.
func TestICMP_aFloodChangesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		session := a.peerOf(b).Current()
		for range 100_000 {
			a.hears(b, unix.EHOSTUNREACH)
		}
		synctest.Wait()
		a.sends(b, 10)
		b.expect(1, "afterwards")
		if a.peerOf(b).Current() != session || a.endpointOf(b) != b.addr {
			t.Error("the session or the endpoint changed")
		}
		there := netip.MustParseAddrPort("[fe80::1%7]:5")
		a.peerOf(b).SetEndpoint(endpointAt(netip.MustParseAddrPort("[fe80::1%eth0]:5")))
		if a.tun.peers.At(there) == nil {
			t.Error("a link-local endpoint is not found by its interface's number")
		}
	})
}

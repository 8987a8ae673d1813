package tunnel

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/tunnel/failover"
	"tund/tunnel/timers"
	"tund/tunnel/udp/udptest"
)

// site is a network behind two gateways.
type site struct {
	*end           // who sends there
	main, standby  *end
	host           netip.Addr
	mainGot, other int // packets that each gateway got
}

// newSite makes a network that two peers of an end share, and waits until the preferred one has a
// session.
func (w *world) newSite() *site {
	w.t.Helper()
	s := &site{end: w.end(), main: w.end(), standby: w.end(), host: netip.MustParseAddr("10.20.1.1")}
	shared := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}
	for i, gateway := range []*end{s.main, s.standby} {
		priority := []int{10, 0}[i]
		gateway.knows(s.end, false)
		s.knows(gateway, true, func(c *PeerChange) { c.SharedIPs, c.Priority = shared, &priority })
	}
	passes(2 * time.Second)
	return s
}

// talks sends a packet into the site every 100 ms, each of which is answered by the gateway that
// got it, until f is true. It returns how long that took, at most limit.
func (s *site) talks(limit time.Duration, f func() bool) time.Duration {
	s.t.Helper()
	for began := time.Now(); time.Since(began) < limit; passes(100 * time.Millisecond) {
		if f() {
			return time.Since(began)
		}
		s.queue.Inject(packet(s.inner, s.host, 10))
		synctest.Wait()
		for gateway, count := range map[*end]*int{s.main: &s.mainGot, s.standby: &s.other} {
			if n := gateway.got(); n > 0 {
				*count += n
				gateway.queue.Inject(packet(s.host, s.inner, 10))
				synctest.Wait()
			}
		}
	}
	return limit
}

// active reports whether s sends to a gateway.
func (s *site) active(gateway *end) bool {
	for _, p := range s.tun.Status().Peers {
		if p.PublicKey == gateway.key.Public() {
			return p.Active
		}
	}
	return false
}

func TestStandby_preferredPeerCarriesAndBothAreHeard(t *testing.T) {
	inBubble(t, func(w *world) {
		s := w.newSite()
		if !s.active(s.main) || s.active(s.standby) {
			t.Error("status: want the preferred peer active, and the other not")
		}
		s.talks(time.Second, func() bool { return false })
		if s.mainGot != 10 || s.other != 0 {
			t.Errorf("the preferred peer got %d packets, the other %d", s.mainGot, s.other)
		}
		s.got()
		s.standby.queue.Inject(packet(s.host, s.inner, 10))
		synctest.Wait()
		s.expect(1, "from the standby peer")
	})
}

// A plain WireGuard peer that dies is noticed by the answers that are missing; nothing is lost when
// it has been back for long enough.
func TestStandby_takesOverAndGivesBack(t *testing.T) {
	inBubble(t, func(w *world) {
		s := w.newSite()
		told := make(chan string, 10)
		s.tun.failover = func(to, from string, prefixes int) { told <- fmt.Sprintf("%s for %s: %d", to, from, prefixes) }
		names := []string{s.main.key.Public().Short(), s.standby.key.Public().Short()}
		s.talks(5*time.Second, func() bool { return false })
		w.net.Filter(func(d udptest.Datagram) error {
			if d.To == s.main.addr || d.From == s.main.addr {
				return udptest.Lost
			}
			return nil
		})
		limit := timers.UnansweredAfter + 2*timers.RekeyTimeout + 3*timers.RekeyTimeoutJitterMax + time.Second
		if took := s.talks(time.Minute, func() bool { return s.active(s.standby) }); took > limit {
			t.Fatalf("taken over after %v, want at most %v", took, limit)
		}
		s.main.got()
		s.mainGot, s.other = 0, 0
		s.talks(5*time.Minute, func() bool { return false })
		if s.other != 3000 {
			t.Errorf("the standby got %d of 3000 packets", s.other)
		}

		if got, want := <-told, names[1]+" for "+names[0]+": 1"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}

		w.net.Filter(nil)
		s.mainGot, s.other = 0, 0
		back := time.Now()
		took := s.talks(time.Minute, func() bool { return s.active(s.main) })
		if least := failover.Health; took < least || took > least+2*timers.RekeyTimeout {
			t.Errorf("given back after %v", took)
		}
		s.talks(5*time.Second, func() bool { return false })
		if sent := int(time.Since(back) / (100 * time.Millisecond)); s.mainGot+s.other != sent || s.mainGot < 50 {
			t.Errorf("of %d packets the preferred peer got %d, the other %d", sent, s.mainGot, s.other)
		}
	})
}

// A reload names all peers anew; it is no reason to go back to one that does not answer.
func TestStandby_reloadMovesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		s := w.newSite()
		w.net.Filter(func(d udptest.Datagram) error {
			if d.To == s.main.addr {
				return udptest.Lost
			}
			return nil
		})
		s.talks(time.Minute, func() bool { return s.active(s.standby) })
		shared := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}
		change := Change{ReplacePeers: true}
		for _, g := range []struct {
			end      *end
			priority int
		}{{s.main, 10}, {s.standby, 0}} {
			change.Peers = append(change.Peers, PeerChange{
				PublicKey: g.end.key.Public(), ReplaceAllowedIPs: true, SharedIPs: shared, Priority: &g.priority,
			})
		}
		s.configure(change)
		if !s.active(s.standby) {
			t.Error("the dead peer is active again")
		}
		// With WireGuard's tools an allowed IP has one owner.
		s.configure(Change{Peers: []PeerChange{{PublicKey: s.main.key.Public(), AllowedIPs: shared}}})
		if !s.active(s.main) || len(s.tun.Status().Peers[1].AllowedIPs) != 0 {
			t.Errorf("after wg set: %+v", s.tun.Status().Peers)
		}
	})
}

// A plain WireGuard peer that is heard but does not hear us any longer asks for session after
// session. That is no sign of life: the standby takes over as it does from a dead peer.
func TestStandby_takesOverFromAPeerThatOnlyAsksForSessions(t *testing.T) {
	inBubble(t, func(w *world) {
		s := w.newSite()
		s.talks(5*time.Second, func() bool { return false })
		w.net.Filter(func(d udptest.Datagram) error {
			if d.From == s.addr && d.To == s.main.addr {
				return udptest.Lost
			}
			return nil
		})
		limit := timers.UnansweredAfter + 2*timers.RekeyTimeout + 3*timers.RekeyTimeoutJitterMax + time.Second
		if took := s.talks(3*time.Minute, func() bool { return s.active(s.standby) }); took > limit {
			t.Errorf("taken over after %v, want at most %v", took, limit)
		}
		s.talks(5*time.Minute, func() bool { return false })
		if s.active(s.main) {
			t.Error("given back although the peer hears nothing")
		}
		w.net.Filter(nil)
		if took := s.talks(time.Minute, func() bool { return s.active(s.main) }); took > failover.Health+2*timers.RekeyTimeout {
			t.Errorf("given back after %v", took)
		}
	})
}

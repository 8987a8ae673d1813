package tunnel

import (
	"strings"
	"testing"
	"time"

	"tund/tunnel/failover"
	"tund/tunnel/peer"
	"tund/tunnel/udp/udptest"
)

// liveness has the site and both gateways ask each other in this interval.
func (s *site) liveness(every time.Duration) {
	on := peer.ExtensionsOn
	for _, gateway := range []*end{s.main, s.standby} {
		for _, x := range [][2]*end{{s.end, gateway}, {gateway, s.end}} {
			x[0].configure(Change{Peers: []PeerChange{{PublicKey: x[1].key.Public(), Extensions: &on, Liveness: &every}}})
		}
	}
}

// With liveness of a second, the standby takes over within three seconds.
func TestStandby_livenessFindsADeadPeerInThreeSeconds(t *testing.T) {
	inBubble(t, func(w *world) {
		s := w.newSite()
		s.liveness(time.Second)
		s.talks(30*time.Second, func() bool { return false })
		w.net.Filter(func(d udptest.Datagram) error {
			if d.To == s.main.addr || d.From == s.main.addr {
				return udptest.Lost
			}
			return nil
		})
		if took := s.talks(time.Minute, func() bool { return s.active(s.standby) }); took > 3*time.Second {
			t.Errorf("taken over after %v", took)
		}
		w.net.Filter(nil)
		s.main.got()
		s.mainGot, s.other = 0, 0
		back := time.Now()
		took := s.talks(time.Minute, func() bool { return s.active(s.main) })
		if took < failover.Health || took > failover.Health+6*time.Second {
			t.Errorf("given back after %v", took)
		}
		s.talks(5*time.Second, func() bool { return false })
		if sent := int(time.Since(back) / (100 * time.Millisecond)); s.mainGot+s.other != sent {
			t.Errorf("%d of %d packets arrived", s.mainGot+s.other, sent)
		}
	})
}

// The preferred peer is heard but does not hear us any longer: what is sent to it is lost, so the
// standby takes over, and gives back once the path works in both directions.
func TestStandby_takesOverFromAPeerThatDoesNotHearUs(t *testing.T) {
	inBubble(t, func(w *world) {
		s := w.newSite()
		s.liveness(time.Second)
		s.talks(30*time.Second, func() bool { return false })
		w.net.Filter(func(d udptest.Datagram) error {
			if d.From == s.addr && d.To == s.main.addr {
				return udptest.Lost
			}
			return nil
		})
		if took := s.talks(3*time.Minute, func() bool { return s.active(s.standby) }); took > 20*time.Second {
			t.Errorf("taken over after %v", took)
		}
		p, _ := find(s.tun.Status(), s.main)
		if p.State != StateDown || !strings.Contains(p.LastError, "what we send does not arrive there") {
			t.Errorf("state %s, %q", p.State, p.LastError)
		}
		s.talks(5*time.Minute, func() bool { return false }) // over renewals
		if s.active(s.main) {
			t.Error("given back although the peer hears nothing")
		}
		w.net.Filter(nil)
		took := s.talks(time.Minute, func() bool { return s.active(s.main) })
		if took < failover.Health || took > failover.Health+10*time.Second {
			t.Errorf("given back after %v", took)
		}
	})
}

package l2

import (
	"testing"
	"time"

	"tund/internal/drop"
)

// A host that was behind peer 2 has moved to our LAN. A peer says that we were the standby gateway
// of our LAN for a while and no longer are. It is believed about hosts that were at its own port
// before, because the move may have been caused by a looping copy. Another peer cannot obtain the
// MAC of the host in this way, and nobody can if the host never was elsewhere.
func TestCut_freesOnlyWhatThePeerHadBefore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why  string
		came PortID // where the host was before
		says PortID
		want drop.Reason
	}{
		{"the peer that had it", 2, 2, drop.None},
		{"another peer", 2, 1, drop.SourceForeign},
		{"it was never elsewhere", LocalPort, 2, drop.SourceForeign},
	} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		addPeer(t, s, 2, PortConfig{})
		host := eth(Broadcast, hostMAC(7), typeIPv4)
		s.Control(at(0), c.says, cutMessage(0, cutStandby))
		s.Tick(at(0))
		if c.came != LocalPort {
			fromPeer(s, at(time.Second), c.came, host)
		}
		for d := 2 * time.Second; d < time.Minute; d += time.Second {
			fromDevice(s, at(d), host)
			s.Tick(at(d))
		}
		s.Control(at(time.Minute), c.says, cutMessage(0, cutOpen))
		s.Tick(at(time.Minute))
		if _, r := fromPeer(s, at(time.Minute+time.Millisecond), c.says, host); r != c.want {
			t.Errorf("%s: its frame from there: %v, want %v", c.why, r, c.want)
		}
	}
}

// A MAC that moved too often is frozen at our LAN. A peer cannot unfreeze it by what it says about
// gateways: the host is still asked for.
func TestCut_thawsNoMACForAThief(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{})
	host, now := eth(Broadcast, hostMAC(7), typeIPv4), start
	frozen := false
	for range freezeMoves {
		fromDevice(s, now, host)
		for d := time.Duration(0); d <= silentWait; d += TickInterval {
			now = now.Add(TickInterval)
			fromPeer(s, now, 1, host)
			for _, e := range s.Tick(now).Events {
				frozen = frozen || e.Kind == EventFrozen
			}
		}
	}
	if id, _ := portOf(s, 0, hostMAC(7)); !frozen || id != LocalPort {
		t.Fatalf("frozen %v, at port %d: the test shows nothing", frozen, id)
	}
	for _, state := range []byte{cutStandby, cutOpen, cutActive} {
		s.Control(now, 1, cutMessage(0, state))
		s.Tick(now)
		if _, r := fromPeer(s, now, 1, host); r == drop.None {
			t.Errorf("after state %d: the thief's frame passes", state)
		}
	}
}

// TestCut_givesAwayNoStation: a peer says that we are one of two gateways of our LAN, on which no
// other switch sends probes. That gives it no address of a host that the bridge knows there and
// that is silent at the TAP.
func TestCut_givesAwayNoStation(t *testing.T) {
	t.Parallel()
	for _, state := range []byte{cutStandby, cutActive} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		host := hostMAC(7)
		s.SyncStations(start, []Station{{MAC: host}}, false)
		s.Tick(start)
		s.Control(at(time.Second), 1, cutMessage(0, state))
		s.Tick(at(time.Second))
		if _, r := fromPeer(s, at(time.Second+ms), 1, eth(Broadcast, host, typeIPv4)); r != drop.SourceForeign {
			t.Errorf("state %d: the peer's frame from its address: %v", state, r)
		}
	}
}

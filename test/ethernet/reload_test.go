package ethernet

import (
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// Every key of [tap] but the device, and every Ethernet key of a peer, changes while frames pass:
// the session stays.
func TestReload_ethernetKeysTakeEffect(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	a.pings(b.v4, 2)
	sessions := berlin.Peer("paris").Handshake.Completed // two when both began at once
	port, far := a.raw(), b.raw()
	reload := func(s *site) {
		t.Helper()
		if err := s.reload(); err != nil {
			t.Fatalf("reload of %s: %v", s.Name, err)
		}
	}
	storm := func(n int) (arrived int, took time.Duration) {
		far.drain()
		took = port.flood(n, 60, 4000, func(f []byte, _ int) { copy(f, plainFrame(l2.Broadcast, a.mac, "storm")) })
		for frame := far.next(time.Now().Add(300 * time.Millisecond)); frame != nil; frame = far.next(time.Now().Add(300 * time.Millisecond)) {
			if holds("storm")(frame) {
				arrived++
			}
		}
		return arrived, took
	}
	// What the limit lets through in that time, and a second's worth at once.
	if n, took := storm(2000); n > int(1000*(took.Seconds()+1)*1.05) {
		t.Errorf("%d broadcasts pass a limit of 1000 a second in %v", n, took)
	}
	for _, s := range []*site{berlin, paris} {
		s.tap = []string{"broadcast_limit = 0", "ageing = 10", "max_macs_per_peer = 2"}
		reload(s)
	}
	if n, _ := storm(2000); n < 1900 {
		t.Errorf("%d of 2000 broadcasts pass without a limit", n)
	}
	for i := range 6 {
		port.send(plainFrame(l2.Broadcast, l2.MAC(0x020000000010+i), "address"))
	}
	pause(200 * time.Millisecond)
	if n := paris.Peer("berlin").MACs; n > 2 {
		t.Errorf("%d addresses behind berlin, want at most 2", n)
	}

	// A trunk, then back.
	berlin.peers[0].lines, paris.peers[0].lines = []string{"vlans = [0, 10]"}, []string{"vlans = [0, 10]"}
	reload(berlin)
	reload(paris)
	port.send(plainFrame(l2.Broadcast, a.mac, "in ten", 0x8100, 10))
	far.expect("VLAN 10 after the reload", 2*time.Second, holds("in ten"))
	berlin.peers[0].lines, paris.peers[0].lines = nil, []string{`macs = ["02:00:00:00:00:77"]`}
	reload(berlin)
	reload(paris)
	port.send(plainFrame(l2.Broadcast, a.mac, "ten again", 0x8100, 10))
	port.send(plainFrame(l2.Broadcast, a.mac, "not pinned"))
	port.send(plainFrame(l2.Broadcast, 0x020000000077, "pinned"))
	far.expect("pinned address", 2*time.Second, func(f []byte) bool {
		if holds("not pinned")(f) || holds("ten again")(f) {
			t.Errorf("passed although it is refused: %x", f[:20])
		}
		return holds("pinned")(f) && !holds("not pinned")(f)
	})
	paris.peers[0].lines = nil
	reload(paris)

	// Hub, BPDU and the rest of the booleans; and cutting off.
	paris.tap = []string{"hub = true", `bpdu = "guard"`, "double_tags = true", "mss_clamp = false", "fragment = false", "neighbor_suppression = false",
		"snooping = false", "learning = false", `transparent = ["lldp"]`}
	reload(paris)
	testnet.Await(t, "berlin to learn that paris is a hub", 3*time.Second, func() bool {
		return strings.Contains(strings.Join(berlin.Peer("paris").Capabilities, " "), "hub")
	})
	a.pings(b.v4, 3)
	if n := berlin.Peer("paris").Handshake.Completed; n != sessions {
		t.Errorf("%d sessions, want the %d of the start to have stayed", n, sessions)
	}
}

// What a running instance cannot change it refuses, as a whole, and goes on as it was.
func TestReload_refusesWhatNeedsARestart(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	berlin.tap = []string{"max_macs = 1000000", "hub = true"}
	err := berlin.reload()
	if err == nil || !strings.Contains(err.Error(), "tap.max_macs") || !strings.Contains(err.Error(), "restart") {
		t.Errorf("reload with a larger table: %v, want a refusal that names tap.max_macs", err)
	}
	if e := berlin.Status().ConfigError; !strings.Contains(e, "tap.max_macs") {
		t.Errorf("status says %q of the refused file", e)
	}
	berlin.tap = []string{"max_macs = 100"}
	if err := berlin.reload(); err != nil {
		t.Errorf("reload with a smaller table: %v", err)
	}
	if got := berlin.Status().FDBLimit; got != 100 {
		t.Errorf("limit of the table is %d, want 100", got)
	}
	a.pings(b.v4, 2)
}

// An MTU of the bridge is the TAP's, and both sides learn of a change.
func TestReload_MTU(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	for _, s := range []*site{berlin, paris} {
		s.tap = []string{"mtu = 2000"}
		if err := s.reload(); err != nil {
			t.Fatalf("reload of %s: %v", s.Name, err)
		}
		if mtu := s.tapDevice().MTU; mtu != 2000 {
			t.Errorf("MTU of the TAP of %s is %d, want 2000", s.Name, mtu)
		}
	}
	for _, h := range []*host{a, b} {
		h.site.NS.Run(t, "ip", "link", "set", h.port, "mtu", "2000")
		h.ns.Run(t, "ip", "link", "set", h.dev, "mtu", "2000")
		h.site.NS.Run(t, "ip", "link", "set", "br0", "mtu", "2000")
	}
	a.pings(b.v4, 3, "-s", "1972", "-M", "do")
}

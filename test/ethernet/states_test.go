package ethernet

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"tund/internal/control"
	"tund/internal/doctor"
	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// stateLimit is how soon a fault has to be named at both ends, and to be gone after its correction:
// 15 seconds, and as many for a busy machine.
const stateLimit = 30 * time.Second

// warns waits until a site warns of a cause, with the key in its remedy, and names the host. What
// its status says, its doctor says as well.
func (s *site) warns(cause, key, host string, do func()) {
	s.T.Helper()
	var said control.Warning
	testnet.Await(s.T, s.Name+" warns of "+cause+" and names "+key+" and "+host, stateLimit, func() bool {
		if do != nil {
			do()
		}
		for _, w := range s.Status().Warnings {
			if w.Kind == "switch" && w.Cause == cause && strings.Contains(w.Remedy, key) && strings.Contains(w.Message, host) {
				said = w
				return true
			}
		}
		return false
	})
	r := s.doctor()
	if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
		return f.Check == "ethernet" && f.Severity == doctor.Warning && f.Remedy == said.Remedy && strings.Contains(f.Cause, host)
	}) {
		s.T.Errorf("the doctor of %s does not say %q, but %+v", s.Name, said.Message, r.Findings)
	}
}

// doctor runs tunctl doctor, whose exit status tells how grave it is.
func (s *site) doctor() doctor.Report {
	s.T.Helper()
	out, _ := s.NS.Try("env", "TUND_RUN_DIR="+s.RunDir(), testnet.Tunctl(s.T), "-i", s.Name, "doctor", "--json")
	var d doctor.Document
	if err := json.Unmarshal([]byte(out), &d); err != nil || len(d.Instances) != 1 {
		s.T.Fatalf("tunctl doctor of %s: %v:\n%s", s.Name, err, out)
	}
	return d.Instances[0]
}

// calm waits until a site has no warning about Ethernet.
func (s *site) calm(do func()) {
	s.T.Helper()
	testnet.Await(s.T, s.Name+" warns of nothing", stateLimit, func() bool {
		if do != nil {
			do()
		}
		for _, w := range s.Status().Warnings {
			if w.Kind == "switch" {
				return false
			}
		}
		return true
	})
}

// Whatever one of two sites is configured to refuse, both say what and which key to change, and
// both are calm again when it was corrected.
func TestStates_bothEndsNameAFault(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a := berlin.host(1)
	start(t, berlin, paris)
	port := a.raw()
	toBerlin := paris.peers[0]
	manyMACs := func() {
		for n := range l2.MAC(8) {
			port.send(plainFrame(l2.Broadcast, strangerMAC+n, "one of many"))
		}
	}
	// At the start.
	paris.Stop()
	paris.tap = append(paris.tap, "mtu = 1400")
	paris.start()
	for _, s := range []*site{berlin, paris} {
		s.warns("mtu", "mtu", "", nil)
	}
	// Left out, the MTU would be the bridge's, which is 1400 now.
	paris.tap[len(paris.tap)-1] = "mtu = 1500"
	paris.reloads()
	berlin.calm(nil)
	paris.calm(nil)
	for _, c := range []struct {
		cause, key string
		wrong      func()
		right      func()
		do         func()
		mac        bool // both name the host
	}{
		{"mtu", "mtu", func() { paris.NS.Run(t, "ip", "link", "set", "tap0", "mtu", "1280") },
			func() { paris.NS.Run(t, "ip", "link", "set", "tap0", "mtu", "1500") }, nil, false},
		{"vlans", "vlans", func() { toBerlin.lines = []string{"vlans = [0, 10]"}; paris.reloads() },
			func() { toBerlin.lines = nil; paris.reloads() }, nil, false},
		{"mac-limit", "max_macs", func() { toBerlin.lines = []string{"max_macs = 4"}; paris.reloads() },
			func() { toBerlin.lines = []string{"max_macs = 64"}; paris.reloads() }, manyMACs, false},
		{"vlans", "pvid", func() { toBerlin.lines = []string{"vlans = [10]"}; paris.reloads() },
			func() { toBerlin.lines = nil; paris.reloads() }, func() { port.send(plainFrame(l2.Broadcast, a.mac, "lost")) }, true},
		{"guard-dhcp", "trust", func() {}, func() { toBerlin.lines = []string{`trust = ["dhcp"]`}; paris.reloads() },
			func() { port.send(dhcp(t, a.mac, layers.DHCPOpReply, layers.DHCPMsgTypeOffer, a.mac)) }, true},
	} {
		c.wrong()
		for _, s := range []*site{berlin, paris} {
			host := ""
			if c.mac {
				host = a.mac.String()
			}
			s.warns(c.cause, c.key, host, c.do)
		}
		c.right()
		berlin.calm(c.do)
		paris.calm(c.do)
	}
	toBerlin.plain, toBerlin.lines = true, nil // ethernet = true is missing
	paris.reloads()
	berlin.warns("no-ethernet", "ethernet = true", "", nil)
	paris.warns("unwanted-ethernet", "ethernet = true", "", nil)
	toBerlin.plain = false
	paris.reloads()
	berlin.calm(nil)
	paris.calm(nil)
}

// A loop and a storm are named at both ends with their remedies, and are forgotten when they are
// over.
func TestSoakStates_loopAndStorm(t *testing.T) {
	testnet.Soak(t) // it waits for both to be over
	beside(t)
	berlin, paris := twoSites(t)
	a := berlin.host(1)
	start(t, berlin, paris)
	unplug := backDoor(t, berlin, paris)
	berlin.warns("loop", "other connection", "paris", nil)
	paris.warns("loop", "other connection", "berlin", nil)
	unplug()
	berlin.calm(nil)
	paris.calm(nil)

	port := a.raw()
	storm := func() {
		for range 2000 {
			port.send(plainFrame(l2.Broadcast, a.mac, "storm"))
		}
	}
	berlin.warns("storm-broadcast", "broadcast_limit", a.mac.String(), storm)
	paris.warns("storm-broadcast", "broadcast_limit", a.mac.String(), storm)
	berlin.calm(nil)
	paris.calm(nil)
}

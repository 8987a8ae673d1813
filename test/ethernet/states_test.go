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

// stateLimit is how soon a fault has to be named at both ends, and to be gone after its correction.
const stateLimit = 15 * time.Second

// changing is a change of which both ends of a tunnel are to speak.
type changing struct {
	t     *testing.T
	what  string
	began time.Time
}

// change makes a change, and begins to measure.
func change(t *testing.T, what string, do func()) changing {
	t.Helper()
	began := time.Now()
	do()
	return changing{t, what, began}
}

// soon fails the test if what was waited for came too late.
func (c changing) soon(outcome string) {
	c.t.Helper()
	took := time.Since(c.began)
	c.t.Logf("%s: %s after %v", c.what, outcome, took.Round(10*time.Millisecond))
	if took > slowly(stateLimit) {
		c.t.Errorf("%s: %s after %v, want at most %v", c.what, outcome, took, stateLimit)
	}
}

// warn waits until both sites warn of a cause, with the key in the remedy, and name the host. What
// their status says, their doctors say as well.
func (c changing) warn(cause, key, host string, do func(), sites ...*site) {
	c.t.Helper()
	said := make([]control.Warning, len(sites))
	for i, s := range sites {
		testnet.Await(c.t, s.Name+" warns of "+cause+" and names "+key+" and "+host, 2*stateLimit, func() bool {
			if do != nil {
				do()
			}
			for _, w := range s.Status().Warnings {
				if w.Kind == "switch" && w.Cause == cause && strings.Contains(w.Remedy, key) && strings.Contains(w.Message, host) {
					said[i] = w
					return true
				}
			}
			return false
		})
	}
	c.soon("named at both ends")
	for i, s := range sites {
		r := s.doctor()
		if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
			return f.Check == "ethernet" && f.Severity == doctor.Warning && f.Remedy == said[i].Remedy && strings.Contains(f.Cause, host)
		}) {
			c.t.Errorf("the doctor of %s does not say %q, but %+v", s.Name, said[i].Message, r.Findings)
		}
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

// calm waits until no site has a warning about Ethernet.
func (c changing) calm(do func(), sites ...*site) {
	c.t.Helper()
	for _, s := range sites {
		testnet.Await(c.t, s.Name+" warns of nothing", 2*stateLimit, func() bool {
			if do != nil {
				do()
			}
			return !slices.ContainsFunc(s.Status().Warnings, func(w control.Warning) bool { return w.Kind == "switch" })
		})
	}
	c.soon("gone at both ends")
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
	paris.Stop()
	paris.tap = append(paris.tap, "mtu = 1400")
	change(t, "another MTU at the start", paris.start).warn("mtu", "mtu", "", nil, berlin, paris)
	// Left out, the MTU would be the bridge's, which is 1400 now.
	paris.tap[len(paris.tap)-1] = "mtu = 1500"
	change(t, "the same MTU", paris.reloads).calm(nil, berlin, paris)
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
		host := ""
		if c.mac {
			host = a.mac.String()
		}
		change(t, c.cause+" ("+c.key+")", c.wrong).warn(c.cause, c.key, host, c.do, berlin, paris)
		change(t, c.cause+" ("+c.key+") mended", c.right).calm(c.do, berlin, paris)
	}
	toBerlin.plain, toBerlin.lines = true, nil
	missing := change(t, "ethernet = true is missing", paris.reloads)
	missing.warn("no-ethernet", "ethernet = true", "", nil, berlin)
	missing.warn("unwanted-ethernet", "ethernet = true", "", nil, paris)
	toBerlin.plain = false
	change(t, "ethernet = true is there", paris.reloads).calm(nil, berlin, paris)
}

// A loop and a storm are named at both ends with their remedies, and are forgotten when they are
// over.
func TestSoakStates_loopAndStorm(t *testing.T) {
	testnet.Soak(t) // it waits for both to be over
	beside(t)
	berlin, paris := twoSites(t)
	a := berlin.host(1)
	start(t, berlin, paris)
	var unplug func()
	loop := change(t, "a loop", func() { unplug = backDoor(t, berlin, paris) })
	loop.warn("loop", "other connection", "paris", nil, berlin)
	loop.warn("loop", "other connection", "berlin", nil, paris)
	change(t, "the loop is gone", unplug).calm(nil, berlin, paris)

	port := a.raw()
	storm := func() {
		for range 2000 {
			port.send(plainFrame(l2.Broadcast, a.mac, "storm"))
		}
	}
	change(t, "a storm", storm).warn("storm-broadcast", "broadcast_limit", a.mac.String(), storm, berlin, paris)
	change(t, "the storm is over", func() {}).calm(nil, berlin, paris)
}

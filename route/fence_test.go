package route

import (
	"context"
	"strings"
	"testing"

	"tund/internal/testnet"
	"tund/route/mark"
)

// reach is where packets to public and private destinations go.
type reach struct{ what, dst, mark, want string }

// checkReach asks the kernel; want "" is unreachable.
func checkReach(t *testing.T, ns *testnet.NS, when string, tests []reach) {
	t.Helper()
	for _, c := range tests {
		out, err := ns.Try("ip", "route", "get", c.dst, "mark", c.mark)
		if c.want == "" && err == nil || c.want != "" && !strings.Contains(out, c.want+" ") {
			t.Errorf("%s, %s: ip route get %s mark %s = %q, %v, want %q", when, c.what, c.dst, c.mark, out, err, c.want)
		}
	}
}

// TestManager_fullTunnelStaysClosedWithoutItsDevice is the kill switch: without the fence, a
// lookup in the instance's empty table would fall through to main.
func TestManager_fullTunnelStaysClosedWithoutItsDevice(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	ns.Run(t, "ip", "route", "add", "default", "via", "2001:db8::2")
	before := ns.Snapshot()
	s := State{Devices: []Device{testStates()[5].state.Devices[0]}}
	m := newInside(t, ns, "office")
	mark := hex(apply(t, m, s).FwMark)
	closed := []reach{
		{"public IPv4", "203.0.113.1", "0", ""}, {"public IPv6", "2001:db8:9::1", "0", ""},
		{"our own IPv4", "203.0.113.1", mark, "dev eth0"}, {"our own IPv6", "2001:db8:9::1", mark, "dev eth0"},
		{"a private network", "192.168.7.7", "0", "dev eth0"}, {"this host", "192.0.2.1", "0", "dev lo"},
	}
	ns.Run(t, "ip", "route", "add", "192.168.7.0/24", "via", "192.0.2.2", "dev", "eth0")
	checkReach(t, ns, "up", []reach{{"public IPv4", "203.0.113.1", "0", "dev office"}, {"public IPv6", "2001:db8:9::1", "0", "dev office"}})
	ns.Run(t, "ip", "link", "set", "office", "down")
	checkReach(t, ns, "link down", closed)
	ns.Run(t, "ip", "link", "set", "office", "up")
	apply(t, m, s)
	ns.Run(t, "ip", "link", "delete", "office")
	checkReach(t, ns, "killed", closed)

	next := newInside(t, ns, "office") // of the process that follows
	if fenced, err := next.Fenced(); err != nil || len(fenced) != 3 {
		t.Errorf("Fenced = %v, %v, want 0.0.0.0/0, ::/0 and 10.20.0.0/16", fenced, err)
	}
	if err := next.Leave(); err != nil { // it does not get far
		t.Fatal(err)
	}
	checkReach(t, ns, "after a start that failed", closed)
	ns.Run(t, "ip", "tuntap", "add", "dev", "office", "mode", "tun")
	next = newInside(t, ns, "office")
	apply(t, next, s)
	checkReach(t, ns, "up again", []reach{{"public IPv4", "203.0.113.1", "0", "dev office"}, {"public IPv6", "2001:db8:9::1", "0", "dev office"}})
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	ns.Run(t, "ip", "route", "delete", "192.168.7.0/24")
	if after := ns.Snapshot(); after != before {
		t.Errorf("after Close\ngot:\n%swant:\n%s", after, before)
	}
	if fenced, err := newInside(t, ns, "office").Fenced(); err != nil || len(fenced) > 0 {
		t.Errorf("Fenced = %v, %v, want none", fenced, err)
	}
}

func TestManager_leaveRemovesAllButWhatKeepsTrafficIn(t *testing.T) {
	t.Parallel()
	for _, s := range testStates() {
		for _, s.state.Guard = range []Guard{GuardCrash, GuardOff} {
			leaves(t, s)
		}
	}
}

func leaves(t *testing.T, s namedState) {
	t.Helper()
	k := newFake()
	before := k.text(t)
	m := newManager("office", k, nil)
	if _, err := m.Apply(context.Background(), s.state); err != nil {
		t.Fatal(err)
	}
	if err := m.Leave(); err != nil {
		t.Fatal(err)
	}
	guarded := 0 // routes that have to be unreachable now
	if s.state.Guard == GuardCrash {
		for _, d := range s.state.Devices {
			guarded += len(d.Routes)
		}
	}
	left := k.text(t)
	v4, v6 := s.state.FullTunnel()
	if !v4 && !v6 && guarded == 0 && left != before {
		t.Errorf("%s: got:\n%swant:\n%s", s.name, left, before)
	}
	k.locked(func() {
		for o := range k.routes {
			if !o.fences() {
				t.Errorf("%s: left %v", s.name, o)
			}
		}
		if len(k.routes) != guarded {
			t.Errorf("%s: %d unreachable routes, want %d:\n%s", s.name, len(k.routes), guarded, left)
		}
	})
	other := newManager("another", k, nil)
	if err := other.Close(); err != nil || k.text(t) != left {
		t.Errorf("%s: another instance took what is not its own: %v\n%s", s.name, err, k.text(t))
	}
	m = newManager("office", k, nil)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if after := k.text(t); after != before {
		t.Errorf("%s: after Close of the next: got:\n%swant:\n%s", s.name, after, before)
	}
}

// TestManager_guardKeepsSiteTrafficIn: without the guard, packets to the other site took the
// default route, in the clear, as soon as the device was gone.
func TestManager_guardKeepsSiteTrafficIn(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	ns.Run(t, "ip", "route", "add", "default", "via", "2001:db8::2")
	removeDevices(t, ns)
	before := ns.Snapshot()
	addDevices(t, ns)
	s := State{Devices: []Device{testStates()[1].state.Devices[0]}}
	s.Devices[0].Routes = append(s.Devices[0].Routes, RoutesFor(prefixes("10.40.0.0/16"), 0, mark.MaxMetric+7)...)
	reaches := func(want string) []reach {
		return []reach{
			{"the other site", "10.20.1.1", "0", want}, {"the other site's IPv6", "fd20::1", "0", want},
			{"the tunnel's own network", "10.9.0.7", "0", want}, {"the worst metric", "10.40.1.1", "0", want},
			{"somebody else", "10.30.1.1", "0", "dev eth0"},
		}
	}
	m := newInside(t, ns, "office")
	apply(t, m, s)
	checkReach(t, ns, "up", reaches("dev office"))
	ns.Run(t, "ip", "link", "set", "office", "down")
	checkReach(t, ns, "down", reaches(""))
	ns.Run(t, "ip", "link", "set", "office", "up")
	apply(t, m, s)
	checkReach(t, ns, "up again", reaches("dev office"))
	removeDevices(t, ns)
	checkReach(t, ns, "killed", reaches(""))
	ns.Do(func() {
		if n, err := Cleanup("another"); err != nil || n != 0 {
			t.Errorf("cleanup of another instance: %d objects, %v", n, err)
		}
		checkReach(t, ns, "after a cleanup of another instance", reaches(""))
		if _, err := CleanupClosed("office"); err != nil {
			t.Error(err)
		}
		checkReach(t, ns, "before a restart", reaches(""))
		if n, err := Cleanup("office"); err != nil || n == 0 {
			t.Errorf("cleanup: %d objects, %v", n, err)
		}
	})
	if after := ns.Snapshot(); after != before {
		t.Errorf("after Cleanup\ngot:\n%swant:\n%s", after, before)
	}
	addDevices(t, ns)
	s.Guard = GuardOff
	m = newInside(t, ns, "office")
	apply(t, m, s)
	removeDevices(t, ns)
	checkReach(t, ns, "killed without a guard", reaches("dev eth0"))
}

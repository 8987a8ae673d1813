package route

import (
	"context"
	"strings"
	"testing"

	"tund/internal/testnet"
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
	if fenced, err := next.Fenced(); err != nil || !fenced {
		t.Errorf("Fenced = %t, %v, want true", fenced, err)
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
	if fenced, err := newInside(t, ns, "office").Fenced(); err != nil || fenced {
		t.Errorf("Fenced = %t, %v, want false", fenced, err)
	}
}

func TestManager_leaveRemovesAllButTheFence(t *testing.T) {
	t.Parallel()
	for _, s := range testStates() {
		k := newFake()
		before := k.text(t)
		m := newManager("office", k, nil)
		if _, err := m.Apply(context.Background(), s.state); err != nil {
			t.Fatal(err)
		}
		if err := m.Leave(); err != nil {
			t.Fatal(err)
		}
		v4, v6 := s.state.FullTunnel()
		k.locked(func() {
			for o := range k.routes {
				if !o.fences() {
					t.Errorf("%s: left %v", s.name, o)
				}
			}
		})
		if after := k.text(t); !v4 && !v6 && after != before {
			t.Errorf("%s: got:\n%swant:\n%s", s.name, after, before)
		} else if v4 && !strings.Contains(after, "unreachable 0.0.0.0/0") || v6 && !strings.Contains(after, "unreachable ::/0") {
			t.Errorf("%s: no fence in:\n%s", s.name, after)
		}
		m = newManager("office", k, nil)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if after := k.text(t); after != before {
			t.Errorf("%s: after Close of the next: got:\n%swant:\n%s", s.name, after, before)
		}
	}
}

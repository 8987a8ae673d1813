package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// narrowWay is a pair whose underlay leads over two routers, which tell nobody when a packet is too
// large for the link between them.
type narrowWay struct {
	*pair
	set func(mtu int) // of the link between the routers
}

func newNarrowWay(t *testing.T, ipv6 bool, mtu int) *narrowWay {
	t.Helper()
	a, near, far, b := testnet.New(t), testnet.New(t), testnet.New(t), testnet.New(t)
	testnet.Veth(t, a, near, []string{"192.0.2.1/24", "2001:db8:1::1/64"}, []string{"192.0.2.254/24", "2001:db8:1::fe/64"})
	testnet.Veth(t, b, far, []string{"198.51.100.1/24", "2001:db8:2::1/64"}, []string{"198.51.100.254/24", "2001:db8:2::fe/64"})
	left, right := testnet.Veth(t, near, far, []string{"203.0.113.1/24", "2001:db8:3::1/64"}, []string{"203.0.113.2/24", "2001:db8:3::2/64"})
	for _, r := range []struct {
		ns  *testnet.NS
		via []string
	}{
		{a, []string{"192.0.2.254", "2001:db8:1::fe"}}, {b, []string{"198.51.100.254", "2001:db8:2::fe"}},
		{near, []string{"203.0.113.2", "2001:db8:3::2"}}, {far, []string{"203.0.113.1", "2001:db8:3::1"}},
	} {
		for _, via := range r.via {
			r.ns.Run(t, "ip", "route", "add", "default", "via", via)
		}
	}
	for _, ns := range []*testnet.NS{near, far} {
		ns.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
		ns.Run(t, "nft", "add table inet mute; add chain inet mute out { type filter hook output priority 0; }; "+
			"add rule inet mute out icmp type destination-unreachable drop; add rule inet mute out icmpv6 type packet-too-big drop")
	}
	w := &narrowWay{pair: &pair{newGateway(t, a, "paris"), newGateway(t, b, "berlin")}}
	w.set = func(mtu int) {
		near.Run(t, "ip", "link", "set", left, "mtu", strconv.Itoa(mtu))
		far.Run(t, "ip", "link", "set", right, "mtu", strconv.Itoa(mtu))
	}
	w.set(mtu)
	toA, toB := "192.0.2.1", "198.51.100.1"
	if ipv6 {
		toA, toB = "[2001:db8:1::1]", "[2001:db8:2::1]"
	}
	w.a.addresses, w.b.addresses = []string{"10.9.0.1/24", "fd09::1/64"}, []string{"10.9.0.2/24", "fd09::2/64"}
	w.a.peers = []peerConfig{{name: "berlin", key: w.b.Key.Public(), endpoint: endpoint(toB),
		allowed: []string{"10.9.0.2/32", "fd09::2/128"}}}
	w.b.peers = []peerConfig{{name: "paris", key: w.a.Key.Public(), endpoint: endpoint(toA),
		allowed: []string{"10.9.0.1/32", "fd09::1/128"}}}
	return w
}

// finds waits until both ends have found what the path carries.
func (w *narrowWay) finds(t *testing.T, mtu int, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		a, b := w.a.Peer("berlin").PathMTU, w.b.Peer("paris").PathMTU
		if a == mtu && b == mtu {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("path MTU %d and %d, want %d", a, b, mtu)
		}
	}
}

// Full-size packets of either family cross a path that is narrower than the interfaces although
// nobody says so, and the MTU of the device follows the path.
func TestPathMTU_narrowPathWithoutICMP(t *testing.T) {
	t.Parallel()
	for _, ipv6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("underlay IPv6=%v", ipv6), func(t *testing.T) {
			t.Parallel()
			w := newNarrowWay(t, ipv6, 1400)
			w.start()
			ping(t, w.a.NS, "10.9.0.2", 1)
			w.finds(t, 1400, 20*time.Second)
			transfer(t, w.a.NS, w.b.NS, "10.9.0.2", 1<<20)
			for _, g := range []*gateway{w.a, w.b} {
				g.Says(20*time.Second, "the MTU of the path to the peers has changed", `"mtu": 1400`)
				for deadline := time.Now().Add(20 * time.Second); g.Status().Devices[0].MTU != 1320; time.Sleep(50 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s: device MTU %d, want 1320", g.Name, g.Status().Devices[0].MTU)
					}
				}
			}
			exercise(t, w.endA(), w.endB(), smallBytes)
			w.a.Stop()
			w.b.Stop()
		})
	}
}

// A path that becomes narrower in the middle of a TCP flow stops it for less than five seconds,
// even if the MTU of the device is fixed and only ICMP messages inside the tunnel can tell the
// sender.
func TestPathMTU_pathShrinksInTheMiddleOfAFlow(t *testing.T) {
	t.Parallel()
	w := newNarrowWay(t, true, 1500)
	w.a.tun, w.b.tun = []string{"mtu = 1420"}, []string{"mtu = 1420"}
	w.start()
	ping(t, w.a.NS, "10.9.0.2", 1)
	w.finds(t, 1500, 20*time.Second)
	flows := []*flow{startFlow(t, w.a.NS, w.b.NS, "10.9.0.2"), startFlow(t, w.b.NS, w.a.NS, "fd09::1")}
	for _, f := range flows {
		f.goesOn("before", 10*time.Second)
	}
	start := time.Now()
	w.set(1390)
	w.finds(t, 1390, 20*time.Second)
	for _, f := range flows {
		f.goesOn("after the path has become narrower", 10*time.Second)
	}
	testnet.Await(t, "the sender is told", 10*time.Second, func() bool { // while it sends
		return strings.Contains(w.a.NS.Run(t, "ip", "route", "get", "10.9.0.2"), "mtu 1310")
	})
	for _, f := range flows {
		f.finish()
	}
	t.Logf("both flows go on %v after the path became narrower", time.Since(start))
	for _, g := range []*gateway{w.a, w.b} {
		if drops := g.Status().Drops["too-big"]; drops == 0 {
			t.Errorf("%s: no packet was refused: the path never became too narrow", g.Name)
		}
	}
	exercise(t, w.endA(), w.endB(), smallBytes)
	w.a.Stop()
	w.b.Stop()
}

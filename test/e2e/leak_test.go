package e2e

import (
	"fmt"
	"regexp"
	"syscall"
	"testing"

	"tund/internal/testnet"
)

// leaked counts, in the namespace behind the uplink, the packets to sites behind the tunnel.
const leaked = `table inet leaks {
	chain in {
		type filter hook prerouting priority -300
		ip daddr { 10.20.0.0/16, 203.0.113.0/24 } counter drop
		ip6 daddr { fd20::/48, 2001:db8:9::/48 } counter drop
	}
}`

// TestProcess_nothingLeavesInTheClear sends to another site, and to the Internet behind a full
// tunnel, from the gateway and from a host of its LAN, while the gateway is reloaded, killed,
// started again, restarted, loses its device, and is upgraded with systemd's store. What arrives
// behind its uplink is counted there.
func TestProcess_nothingLeavesInTheClear(t *testing.T) {
	t.Parallel()
	for _, full := range []bool{true, false} {
		t.Run(fmt.Sprintf("full tunnel=%t", full), func(t *testing.T) {
			t.Parallel()
			nothingLeaves(t, full)
		})
	}
}

func nothingLeaves(t *testing.T, full bool) {
	g, internet := fullTunnelAt(t)
	lan := testnet.New(t)
	testnet.Veth(t, g.NS, lan, []string{"192.168.7.1/24", "fd07::1/64"}, []string{"192.168.7.2/24", "fd07::2/64"})
	lan.Run(t, "sh", "-c", "ip route add default via 192.168.7.1 && ip route add default via fd07::1")
	g.tun = []string{"forward = true"}
	targets := "10.20.1.1 fd20::1 203.0.113.1 2001:db8:9::1"
	if !full {
		g.peers, targets = g.peers[1:], "10.20.1.1 fd20::1"
	}
	g.NS.Run(t, "ip", "route", "add", "default", "via", underlayB6)
	before := g.NS.Snapshot()
	g.start()
	g.File("leaks.nft", leaked)
	internet.Run(t, "nft", "-f", g.Dir+"/leaks.nft")
	send := "for to in " + targets + "; do ping -q -c2 -i.01 -W.01 $to; done >/dev/null 2>&1"
	var senders []*testnet.Process
	for _, ns := range []*testnet.NS{g.NS, lan} {
		senders = append(senders, ns.Start(t, "sh", "-c", "while :; do "+send+"; done"))
	}
	again := func(what string, end func()) {
		t.Helper()
		end()
		_, _ = g.NS.Try("sh", "-c", send)
		_, _ = lan.Try("sh", "-c", send)
		g.start()
		if out := internet.Run(t, "nft", "list", "table", "inet", "leaks"); regexp.MustCompile(`packets [1-9]`).MatchString(out) {
			t.Errorf("%s: packets left in the clear:\n%s", what, out)
			internet.Run(t, "sh", "-c", "nft delete table inet leaks && nft -f "+g.Dir+"/leaks.nft")
		}
	}
	g.reload()
	again("SIGKILL", func() { _ = g.Process.Stop(syscall.SIGKILL, startLimit) })
	again("restart", func() {
		if err := syscall.Kill(g.Process.Pid(), syscall.SIGUSR1); err != nil {
			t.Error(err)
		}
		if err := g.Process.Stop(syscall.SIGTERM, startLimit); err != nil {
			t.Error(err)
		}
	})
	again("device deleted", func() {
		g.NS.Run(t, "ip", "link", "delete", g.Name)
		_ = g.Process.Stop(syscall.SIGTERM, startLimit)
	})
	var store *fdStore
	again("SIGKILL again", func() {
		_ = g.Process.Stop(syscall.SIGKILL, startLimit)
		store = storeFor(t, g) // from the next start on
	})
	again("upgrade", func() {
		store.stop()
		store.ready()
	})
	for _, sender := range senders {
		_ = sender.Stop(syscall.SIGKILL, startLimit)
	}
	g.Stop()
	if after := g.NS.Snapshot(); after != before {
		t.Errorf("after the stop: the kernel has\n%swant\n%s", after, before)
	}
}

package e2e

import (
	"fmt"
	"regexp"
	"syscall"
	"testing"
)

// leaked counts the packets to sites behind the tunnel that left by the uplink.
const leaked = `table inet leaks {
	chain out {
		type filter hook output priority 0
		oifname eth0 ip daddr { 10.20.0.0/16, 203.0.113.0/24 } counter
		oifname eth0 ip6 daddr { fd20::/48, 2001:db8:9::/48 } counter
	}
}`

// TestProcess_nothingLeavesInTheClear sends to another site, and to the internet behind a full
// tunnel, while the gateway is reloaded, killed, started again, restarted, and loses its device.
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
	g := fullTunnel(t)
	targets := "10.20.1.1 fd20::1 203.0.113.1 2001:db8:9::1"
	if !full {
		g.peers, targets = g.peers[1:], "10.20.1.1 fd20::1"
	}
	g.NS.Run(t, "ip", "route", "add", "default", "via", underlayB6)
	before := g.NS.Snapshot()
	g.start()
	g.File("leaks.nft", leaked)
	g.NS.Run(t, "nft", "-f", g.Dir+"/leaks.nft")
	send := "for to in " + targets + "; do ping -q -c2 -i.01 -W.01 $to; done >/dev/null 2>&1"
	sender := g.NS.Start(t, "sh", "-c", "while :; do "+send+"; done")
	again := func(what string, end func()) {
		t.Helper()
		end()
		_, _ = g.NS.Try("sh", "-c", send)
		g.start()
		if out := g.NS.Run(t, "nft", "list", "table", "inet", "leaks"); regexp.MustCompile(`packets [1-9]`).MatchString(out) {
			t.Errorf("%s: packets left in the clear:\n%s", what, out)
			g.NS.Run(t, "sh", "-c", "nft delete table inet leaks && nft -f "+g.Dir+"/leaks.nft")
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
	_ = sender.Stop(syscall.SIGKILL, startLimit)
	g.Stop()
	g.NS.Run(t, "nft", "delete", "table", "inet", "leaks")
	if after := g.NS.Snapshot(); after != before {
		t.Errorf("after the stop: the kernel has\n%swant\n%s", after, before)
	}
}

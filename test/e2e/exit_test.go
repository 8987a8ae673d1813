package e2e

import (
	"strings"
	"syscall"
	"testing"

	"tund/internal/testnet"
)

// TestExit_clientsReachTheInternet: a client's whole traffic reaches a host that has no route to
// the client, because the exit forwards and translates by itself; nothing of that is left once the
// exit was killed and cleaned up.
func TestExit_clientsReachTheInternet(t *testing.T) {
	t.Parallel()
	p := newPair(t, true)
	internet := testnet.New(t)
	toNet, toExit := testnet.Veth(t, p.b.NS, internet, []string{"198.51.100.1/24", "2001:db8:51::1/64"}, []string{"198.51.100.2/24", "2001:db8:51::2/64"})
	p.a.peers[0].allowed = []string{"0.0.0.0/0", "::/0"}
	p.b.tun = []string{"forward = true", "masquerade = true"}
	before := p.b.NS.Snapshot()
	internet.Run(t, "sh", "-c", `nft add table inet seen && nft add chain inet seen in '{ type filter hook input priority 0; }' &&
		nft add rule inet seen in iifname `+toExit+` ip saddr 10.0.0.0/8 counter && nft add rule inet seen in iifname `+toExit+` ip6 saddr fc00::/7 counter`)
	p.b.start() // first, so that no handshake is lost
	p.a.start()
	for _, to := range []string{"198.51.100.2", "2001:db8:51::2"} {
		ping(t, p.a.NS, to, 3)
	}
	if seen := internet.Run(t, "nft", "list", "table", "inet", "seen"); strings.Count(seen, "packets 0 ") != 2 {
		t.Errorf("the addresses of the tunnel are seen outside:\n%s", seen)
	}
	_ = p.b.Process.Stop(syscall.SIGKILL, startLimit)
	p.b.sweep(true)
	if after := p.b.NS.Snapshot(); after != before {
		t.Errorf("killed and cleaned up (by %s): the exit has\n%swant\n%s", toNet, after, before)
	}
	p.b.start()
	p.b.Stop()
	if after := p.b.NS.Snapshot(); after != before {
		t.Errorf("stopped: the exit has\n%swant\n%s", after, before)
	}
}

package e2e

import (
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// recoveryLimit is the time in which traffic is back once what stopped it is gone.
const recoveryLimit = 6 * time.Second

// fault is something that a host does to its own network, and takes back.
type fault struct {
	name     string
	do, undo []string // commands on the host of paris
	goesOn   bool     // traffic goes on meanwhile
	// The reason under which its datagrams are counted, and the word in the peer's last error.
	drop, says string
}

var faults = []fault{
	{name: "firewall refuses (EPERM)", drop: "send-error", says: "not permitted",
		do: []string{"nft add table inet fault; add chain inet fault out { type filter hook output priority 0; };" +
			" add rule inet fault out udp sport 51820 drop"},
		undo: []string{"nft delete table inet fault"}},
	{name: "no route (ENETUNREACH)", drop: "send-error", says: "unreachable",
		do: []string{"ip route delete 192.0.2.0/24"}, undo: []string{"ip route add 192.0.2.0/24 dev eth0"}},
	{name: "route that prohibits (EACCES)", drop: "send-error", says: "denied",
		do: []string{"ip route add prohibit 192.0.2.2/32"}, undo: []string{"ip route delete prohibit 192.0.2.2/32"}},
	{name: "source address gone", drop: "send-error", says: "unreachable",
		do: []string{"ip address delete 192.0.2.1/24 dev eth0"}, undo: []string{"ip address add 192.0.2.1/24 dev eth0"}},
	{name: "another source address", goesOn: true,
		do:   []string{"ip address delete 192.0.2.1/24 dev eth0", "ip address add 192.0.2.77/24 dev eth0"},
		undo: []string{"ip address delete 192.0.2.77/24 dev eth0", "ip address add 192.0.2.1/24 dev eth0"}},
	{name: "link down", drop: "send-error", says: "unreachable",
		do: []string{"ip link set eth0 down"}, undo: []string{"ip link set eth0 up"}},
	{name: "smaller MTU", goesOn: true,
		do: []string{"ip link set eth0 mtu 1360"}, undo: []string{"ip link set eth0 mtu 1500"}},
	{name: "MTU below what IPv6 needs", goesOn: true,
		do: []string{"ip link set eth0 mtu 1000"}, undo: []string{"ip link set eth0 mtu 1500"}},
}

// command runs one line of a fault. An nft(8) script is one argument.
func command(t *testing.T, ns *testnet.NS, line string) {
	t.Helper()
	if script, ok := strings.CutPrefix(line, "nft "); ok {
		ns.Run(t, "nft", script)
		return
	}
	ns.Run(t, strings.Fields(line)...)
}

func TestFaults_noneStopsTrafficForGood(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, false)
			p.start()
			forth := startFlow(t, p.a.NS, p.b.NS, p.endB().v4)
			pings := startPing(t, p.b.NS, p.endA().v4, 100*time.Millisecond)
			forth.goesOn("at first", startLimit)
			pings.goesOn("at first", startLimit)
			for _, line := range f.do {
				command(t, p.a.NS, line)
			}
			if f.goesOn {
				forth.goesOn("during the fault", recoveryLimit)
				pings.goesOn("during the fault", recoveryLimit)
			} else {
				testnet.Await(t, "drops counted as "+f.drop, startLimit, func() bool { return p.a.Status().Drops[f.drop] != 0 })
				testnet.Await(t, "the peer's last error says "+f.says, startLimit, func() bool {
					return strings.Contains(p.a.Status().Peers[0].LastError, f.says)
				})
			}
			for _, line := range f.undo {
				command(t, p.a.NS, line)
			}
			began := time.Now()
			forth.goesOn("after the fault", recoveryLimit)
			pings.goesOn("after the fault", recoveryLimit)
			t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
			forth.finish()
			p.a.Stop()
			p.b.Stop()
		})
	}
}

// TestFaults_smallerPathBehindARouter has a link between the gateways that neither of them sees.
func TestFaults_smallerPathBehindARouter(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	router := testnet.New(t)
	testnet.Veth(t, p.a.NS, router, []string{"198.51.100.1/24"}, []string{"198.51.100.254/24"})
	testnet.Veth(t, p.b.NS, router, []string{"203.0.113.1/24"}, []string{"203.0.113.254/24"})
	router.Run(t, "sysctl", "-q", "net.ipv4.ip_forward=1")
	p.a.NS.Run(t, "ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.254")
	p.b.NS.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "203.0.113.254")
	p.a.peers[0].endpoint, p.b.peers[0].endpoint = endpoint("203.0.113.1"), endpoint("198.51.100.1")
	p.start()
	forth := startFlow(t, p.a.NS, p.b.NS, p.endB().v4)
	back := startFlow(t, p.b.NS, p.a.NS, p.endA().v6)
	forth.goesOn("at first", startLimit)
	back.goesOn("at first", startLimit)
	for _, mtu := range []string{"1400", "1300"} {
		router.Run(t, "ip", "link", "set", "eth1", "mtu", mtu)
		p.b.NS.Run(t, "ip", "link", "set", "eth1", "mtu", mtu)
		forth.goesOn("over a path of "+mtu, recoveryLimit)
		back.goesOn("over a path of "+mtu, recoveryLimit)
	}
	largeDatagrams(t, p.a.NS, p.b.NS, p.endB().v4)
	router.Run(t, "ip", "link", "set", "eth1", "mtu", "1500")
	p.b.NS.Run(t, "ip", "link", "set", "eth1", "mtu", "1500")
	forth.goesOn("over the whole path", recoveryLimit)
	back.goesOn("over the whole path", recoveryLimit)
	forth.finish()
	back.finish()
	p.a.Stop()
	p.b.Stop()
}

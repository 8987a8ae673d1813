package route

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"tund/internal/netwatch"
	"tund/internal/testnet"
)

// TestManager_fullTunnelAnswersItsNeighbors is about an uplink in a public network: with strict
// reverse path filtering the kernel did not answer the router's ARP requests any more, and the
// tunnel ended when the router had to ask.
func TestManager_fullTunnelAnswersItsNeighbors(t *testing.T) {
	t.Parallel()
	for _, local := range []LocalNetworks{LocalPrivate, LocalAll, LocalNone} {
		ns, router := testnet.New(t), testnet.New(t)
		testnet.Veth(t, ns, router, []string{"203.0.113.1/24", "2001:db8::1/64"}, []string{"203.0.113.254/24", "2001:db8::2/64"})
		testnet.Veth(t, ns, router, []string{"192.168.7.1/24"}, []string{"192.168.7.254/24"})
		ns.Run(t, "ip", "route", "add", "default", "via", "203.0.113.254")
		ns.Run(t, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
		addDevices(t, ns)
		before := ns.Snapshot()
		m := newInside(t, ns, "office")
		s := State{Devices: testStates()[5].state.Devices[:1], LocalNetworks: local}
		apply(t, m, s)
		answers := func(address string) bool {
			router.Run(t, "ip", "neigh", "flush", "all")
			return answersTo(router, address)
		}
		for _, address := range []string{"203.0.113.1", "2001:db8::1", "192.168.7.1"} {
			if !answers(address) {
				t.Errorf("local networks %d: no answer from %s", local, address)
			}
		}
		if local != LocalAll {
			checkReach(t, ns, "unbound", []reach{{"a neighbour", "203.0.113.254", "0", "dev office"}})
		}
		ns.Run(t, "ip", "address", "add", "198.51.100.1/24", "dev", "eth0")
		router.Run(t, "ip", "address", "add", "198.51.100.254/24", "dev", "eth0")
		apply(t, m, s)
		if !answers("198.51.100.1") {
			t.Errorf("local networks %d: no answer from an address that came later", local)
		}
		ns.Run(t, "ip", "address", "delete", "198.51.100.1/24", "dev", "eth0")
		apply(t, m, s)
		if rules := ns.Run(t, "ip", "rule"); strings.Contains(rules, "198.51.100") {
			t.Errorf("local networks %d: a rule for an address that went:\n%s", local, rules)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if after := ns.Snapshot(); after != before {
			t.Errorf("after Close\ngot:\n%swant:\n%s", after, before)
		}
	}
}

func TestManager_rulesForNeighborsAreBounded(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	for i := range 2 * maxNeighbors {
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i), 1}), 24)
		k.addrs[addrObject{"eth0", network}] = true
	}
	got := apply(t, m, testStates()[5].state)
	if rules := strings.Count(k.text(t), "rule 31168:"); rules != maxNeighbors || len(got.Warnings) != 1 {
		t.Errorf("%d rules, warnings %q, want %d and one", rules, got.Warnings, maxNeighbors)
	}
}

func TestWatch_tellsWhenAFullTunnelHidesANetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[5].state)
		defer w.stop()
		for address, want := range map[string]bool{
			"203.0.113.1/24": true, "2001:db8::1/64": true, "203.0.113.1/32": false, "10.7.0.1/24": false, "fe80::1/64": false,
		} {
			w.source.batches <- []netwatch.Notice{{Kind: netwatch.Addr, Index: w.k.links["eth0"].index, Prefix: prefixes(address)[0]}}
			if events := w.pass(2 * settle); len(events) != 1 || events[0].Changed != want {
				t.Errorf("%s: events %+v, want one with Changed %t", address, events, want)
			}
		}
	})
}

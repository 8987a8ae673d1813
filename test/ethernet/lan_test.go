package ethernet

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

func TestTwoLANs_areOneEthernet(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)

	a.pings(b.v4, 5)
	b.pings(a.v4, 5)
	a.pings(b.v6(), 5)
	b.pings(a.v6(), 5)
	neighbours := a.ns.Run(t, "ip", "neighbour", "show", "dev", a.dev)
	for _, addr := range []string{b.v4, b.v6()} {
		if want := addr + " lladdr " + b.mac.String(); !strings.Contains(neighbours, want) {
			t.Errorf("neighbours of a have no %q:\n%s", want, neighbours)
		}
	}
	if got := berlin.where(b.mac, 0); got != "paris" {
		t.Errorf("berlin knows the host of paris behind %q, want paris", got)
	}
	if got := berlin.where(a.mac, 0); got != "tap0" {
		t.Errorf("berlin knows its own host behind %q, want tap0", got)
	}
	var table struct {
		Instances []struct {
			FDB []struct{ MAC, Port, Kind string }
		}
	}
	paris.tunctl(&table, "fdb", "--json")
	if text := fmt.Sprint(table); !strings.Contains(text, "{"+a.mac.String()+" berlin learned}") {
		t.Errorf("tunctl fdb --json of paris: %s, want %v learned behind berlin", text, a.mac)
	}
}

func TestTwoLANs_hostsAtFullMTUAreUntouched(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	for _, h := range []*host{a, b} {
		if mtu := strings.TrimSpace(h.ns.Run(t, "cat", "/sys/class/net/"+h.dev+"/mtu")); mtu != "1500" {
			t.Errorf("MTU of a host is %s, want 1500", mtu)
		}
	}
	// Full frames, which must not be fragmented, over an underlay with an MTU of 1500: as datagrams
	// of the tunnel they do not fit, so each travels in two parts.
	a.pings(b.v4, 10, "-s", "1472", "-M", "do")
	b.pings(a.v4, 10, "-s", "1472", "-M", "do")
	a.pings(b.v6(), 10, "-s", "1452", "-M", "do")
	a.pings(b.v4, 5, "-s", "20000") // several full fragments at once
	for _, path := range []struct {
		from, at *host
		to       string
	}{{a, b, b.v4}, {b, a, a.v4}, {a, b, b.v6()}, {b, a, a.v6()}} {
		rate := transfer(t, path.from, path.at, path.to, 32<<20)
		t.Logf("TCP to %s: %.2f Gbit/s", path.to, rate*8/1e9)
	}
	for _, s := range []*site{berlin, paris} {
		drops := s.Status().Drops
		for _, name := range []string{"too-big", "reassembly-bad", "reassembly-full", "send-error", "bad-device-packet", "internal"} {
			if drops[name] != 0 {
				t.Errorf("%s dropped %d for %s", s.Name, drops[name], name)
			}
		}
	}
}

// Sessions are renewed every two minutes, and no frame is lost on the way, whole or in parts.
func TestSoakTwoLANs_acrossNewSessions(t *testing.T) {
	testnet.Soak(t)
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	a.pings(b.v4, 1)
	var wait sync.WaitGroup
	for _, ping := range []struct {
		from *host
		args []string
	}{{a, []string{b.v4}}, {b, []string{a.v6()}}, {a, []string{"-s", "1472", "-M", "do", b.v4}}} {
		wait.Go(func() {
			p := ping.from.ns.Start(t, append([]string{"ping", "-n", "-q", "-i", "0.2", "-c", "690", "-w", "180"}, ping.args...)...)
			if err := p.Wait(); err != nil || !strings.Contains(p.Output(), " 0% packet loss") {
				t.Errorf("ping %v: %v\n%s", ping.args, err, p.Output())
			}
		})
	}
	wait.Wait()
	if n := berlin.Peer("paris").Handshake.Completed; n < 2 {
		t.Errorf("%d sessions in 140 s, want a second one", n)
	}
}

func TestTwoLANs_multicastDNSCrosses(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	for _, m := range []struct{ network, group string }{{"udp4", "224.0.0.251"}, {"udp6", "ff02::fb"}} {
		atA, atB := a.datagrams(m.network, 5353, m.group), b.datagrams(m.network, 5353, m.group)
		for _, way := range []struct {
			name     string
			from, to *datagrams
		}{{"a to b", atA, atB}, {"b to a", atB, atA}} {
			want := "who is " + way.name
			way.from.send(m.group, 5353, want)
			for got := ""; got != want; {
				if got = way.to.receive(3 * time.Second); got == "" {
					t.Errorf("%s from %s: not received", m.group, way.name)
					break
				}
			}
		}
	}
}

// A router at one site configures hosts at the other when its site is trusted with it, and not
// otherwise.
func TestTwoLANs_autoconfigurationOnlyFromATrustedSite(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	router, client := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	client.ns.Run(t, "sysctl", "-qw", "net.ipv6.conf."+client.dev+".accept_ra=1")
	port := router.raw()
	configured := func() bool {
		return strings.Contains(client.ns.Run(t, "ip", "-6", "address", "show", "dev", client.dev), "2001:db8:7:0:")
	}
	for range 5 {
		port.send(routerAdvertisement(t, port.mac, "2001:db8:7::"))
	}
	testnet.Await(t, "five refusals", 5*time.Second, func() bool { return paris.Peer("berlin").Drops["guard-ra"] == 5 })
	if configured() {
		t.Error("a host took its address from a router of a site that is not trusted")
	}

	paris.peers[0].lines = []string{`trust = ["ra"]`}
	paris.reloads()
	testnet.Await(t, "address of the host at the other site", 10*time.Second, func() bool {
		port.send(routerAdvertisement(t, port.mac, "2001:db8:7::"))
		pause(100 * time.Millisecond)
		return configured()
	})
	if out := client.ns.Run(t, "ip", "-6", "route", "show", "default"); !strings.Contains(out, linkLocal(port.mac).String()) {
		t.Errorf("default route of the host: %q, want one via the router at the other site", out)
	}
}

// A DHCP server at one site serves hosts at the other when its site is trusted with it, and not
// otherwise.
func TestTwoLANs_DHCPOnlyFromATrustedSite(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	server, client := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	dnsmasq := serveDHCP(t, server)
	if got := lease(t, client); got != nil {
		t.Errorf("a host got %v from a server of a site that is not trusted", got)
	}
	if paris.Peer("berlin").Drops["guard-dhcp"] == 0 {
		t.Error("paris counts no refused message of the server")
	}
	if !strings.Contains(dnsmasq.Output(), "DHCPOFFER") {
		t.Errorf("the server was not even asked:\n%s", dnsmasq.Output())
	}

	paris.peers[0].lines = []string{`trust = ["dhcp"]`}
	paris.reloads()
	if got := lease(t, client); !got.Equal(net.IPv4(10, 7, 0, 150)) {
		t.Errorf("the host at the other site got %v, want 10.7.0.150; the server says:\n%s", got, dnsmasq.Output())
	}
}

// serveDHCP runs a server that has one address to give away.
func serveDHCP(t *testing.T, h *host) *testnet.Process {
	t.Helper()
	if _, err := h.ns.Try("sh", "-c", "command -v dnsmasq"); err != nil {
		testnet.Lacks(t, "dnsmasq is not installed (Debian: dnsmasq-base)")
	}
	dir := testnet.Scratch(t)
	p := h.ns.Start(t, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root", "--group=root", "--pid-file=",
		"--interface="+h.dev, "--bind-interfaces", "--log-dhcp", "--no-ping", "--dhcp-authoritative",
		"--dhcp-leasefile="+dir+"/leases", "--dhcp-range=10.7.0.150,10.7.0.150,255.255.255.0,2m")
	testnet.Await(t, "DHCP server", 10*time.Second, func() bool {
		return strings.Contains(p.Output(), "DHCP, sockets bound") || strings.Contains(p.Output(), "DHCP, IP range")
	})
	return p
}

// lease does what a DHCP client does, for a MAC of its own, and returns the address it was given,
// or nil.
func lease(t *testing.T, h *host) net.IP {
	t.Helper()
	port := h.raw()
	client := port.mac
	ask := func(kind, want layers.DHCPMsgType, more ...layers.DHCPOption) *layers.DHCPv4 {
		for range 3 {
			port.send(dhcp(t, client, layers.DHCPOpRequest, kind, client, more...))
			for deadline := time.Now().Add(time.Second); ; {
				frame := port.next(deadline)
				if frame == nil {
					break
				}
				if m := dhcpOf(frame, client); m != nil && option(m, layers.DHCPOptMessageType)[0] == byte(want) {
					return m
				}
			}
		}
		return nil
	}
	offer := ask(layers.DHCPMsgTypeDiscover, layers.DHCPMsgTypeOffer)
	if offer == nil {
		return nil
	}
	ack := ask(layers.DHCPMsgTypeRequest, layers.DHCPMsgTypeAck,
		layers.NewDHCPOption(layers.DHCPOptRequestIP, offer.YourClientIP.To4()),
		layers.NewDHCPOption(layers.DHCPOptServerID, option(offer, layers.DHCPOptServerID)))
	if ack == nil {
		return nil
	}
	return ack.YourClientIP
}

// tund makes the bridge when there is none, and leaves none behind; one that was there stays.
func TestBridge_madeWhenAbsentAndRemovedAtTheEnd(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	b := paris.host(2)
	berlin.NS.Run(t, "ip", "link", "del", "br0")
	before := berlin.NS.Snapshot()
	start(t, berlin, paris)
	a := &host{t: t, ns: testnet.New(t), v4: "10.7.0.1"}
	a.attach(berlin, []string{"10.7.0.1/24"})
	a.pings(b.v4, 3)
	berlin.NS.Run(t, "ip", "link", "del", a.port)
	berlin.Stop()
	if after := berlin.NS.Snapshot(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	paris.Stop()
	if out, err := paris.NS.Try("ip", "link", "show", "br0"); err != nil {
		t.Errorf("the bridge that was there before is gone: %v %s", err, out)
	}
}

// The request for a neighbour that has just spoken goes to its site alone. That for an unknown host
// goes to all.
func TestSwitch_sendsRequestsToTheSiteOfTheNeighbour(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, paris, rome := w.site("berlin"), w.site("paris"), w.site("rome")
	mesh(berlin, paris, rome)
	a, b, c := berlin.host(1), paris.host(2), rome.host(3)
	start(t, berlin, paris, rome)
	a.pings(b.v4, 2)
	port, watch := a.raw(), c.raw()
	isARP := func(frame []byte) bool { return frame[12] == 0x08 && frame[13] == 0x06 }
	asked := func(frame []byte) bool { return from(a.mac)(frame) && isARP(frame) }
	// The first request goes to all: it tests that nobody else has the address. Later ones go to
	// all only if the site of b has not answered in time, as on a busy machine.
	testnet.Await(t, "a request for a host of paris that rome does not get", startLimit, func() bool {
		watch.drain()
		port.send(arp(t, l2.Broadcast, a.mac, 1, a.v4, 0, b.v4))
		port.expect("answer of b", time.Second, func(frame []byte) bool {
			return from(b.mac)(frame) && isARP(frame) && frame[21] == 2
		})
		return watch.seen(300*time.Millisecond, asked) == nil
	})
	if n := berlin.Status().Suppression; n == nil || n.Answered == 0 {
		t.Errorf("berlin counts no suppressed request: %+v", n)
	}
	port.send(arp(t, l2.Broadcast, a.mac, 1, a.v4, 0, "10.7.0.77"))
	watch.expect("request for an unknown host", time.Second, asked)
}

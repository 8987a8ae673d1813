package ethernet

import (
	"fmt"
	"testing"
	"time"

	"tund/tunnel/l2"
)

// threeSites makes three sites with a host each, not started and without peers.
func threeSites(t *testing.T) (sites []*site, hosts []*host) {
	t.Helper()
	w := newWAN(t)
	sites = []*site{w.site("berlin"), w.site("paris"), w.site("rome")}
	for i, s := range sites {
		hosts = append(hosts, s.host(i+1))
	}
	return sites, hosts
}

// everyPair pings between all hosts, with full frames too, and transfers something.
func everyPair(t *testing.T, hosts []*host) {
	t.Helper()
	for _, from := range hosts {
		for _, to := range hosts {
			if from == to {
				continue
			}
			from.pings(to.v4, 3)
			from.pings(to.v6(), 3)
			from.pings(to.v4, 3, "-s", "1472", "-M", "do")
			transfer(t, from, to, to.v4, 4<<20)
		}
	}
}

func TestSites_fullMesh(t *testing.T) {
	beside(t)
	sites, hosts := threeSites(t)
	mesh(sites...)
	start(t, sites...)
	everyPair(t, hosts)

	// A broadcast comes to every other site once, and comes back to nobody.
	ports := []*raw{hosts[0].raw(), hosts[1].raw(), hosts[2].raw()}
	for _, p := range ports {
		p.drain()
	}
	ports[0].send(plainFrame(l2.Broadcast, hosts[0].mac, "to everybody"))
	for i := 1; i < 3; i++ {
		ports[i].expect("broadcast", time.Second, holds("to everybody"))
		ports[i].never("second broadcast", 200*time.Millisecond, holds("to everybody"))
	}
	ports[0].never("own broadcast", 100*time.Millisecond, holds("to everybody"))
}

func TestSites_hubJoinsThoseThatDoNotKnowEachOther(t *testing.T) {
	beside(t)
	sites, hosts := threeSites(t)
	hub := sites[0]
	hub.tap = []string{"hub = true"}
	for _, s := range sites[1:] {
		hub.knows(s)
		s.knows(hub)
	}
	start(t, sites...)
	everyPair(t, hosts)
	if at := sites[1].where(hosts[2].mac, 0); at != "berlin" {
		t.Errorf("paris knows the host in Rome behind %q, want berlin, the hub", at)
	}
	found := false
	for _, c := range sites[1].Peer("berlin").Capabilities {
		found = found || c == "hub"
	}
	if !found {
		t.Errorf("paris does not know that berlin is a hub: %v", sites[1].Peer("berlin").Capabilities)
	}
}

// Without hub = true the middle keeps its peers apart.
func TestSites_splitHorizonKeepsPeersApart(t *testing.T) {
	beside(t)
	sites, hosts := threeSites(t)
	for _, s := range sites[1:] {
		sites[0].knows(s)
		s.knows(sites[0])
	}
	start(t, sites...)
	hosts[1].pings(hosts[0].v4, 2)
	hosts[2].pings(hosts[0].v4, 2)
	hosts[1].unreachable(hosts[2].v4)
	hosts[1].ns.Run(t, "ip", "neighbour", "replace", hosts[2].v4, "lladdr", hosts[2].mac.String(), "dev", hosts[1].dev)
	hosts[1].unreachable(hosts[2].v4)
	if n := sites[0].Peer("paris").Drops["split-horizon"]; n == 0 {
		t.Errorf("berlin counts no split-horizon: %v", sites[0].Peer("paris").Drops)
	}
}

// Multicast goes where somebody listens, once a querier makes listeners tell.
func TestSites_snoopedMulticastGoesWhereSomebodyListens(t *testing.T) {
	beside(t)
	const group = "239.7.7.7"
	const groupMAC l2.MAC = 0x01005e070707
	sites, hosts := threeSites(t)
	mesh(sites...)
	start(t, sites...)
	listener := hosts[1].datagrams("udp4", 7777, group)
	querier := hosts[0].raw()
	query := func() { querier.send(generalQuery(t, querier.mac, hosts[0].v4)) }
	query()
	pause(queryAnswered)
	deaf := hosts[2].raw()
	deaf.drain()
	sender := hosts[0].datagrams("udp4", 0, "")
	hosts[0].ns.Run(t, "ip", "route", "add", "239.0.0.0/8", "dev", hosts[0].dev)
	for range 5 {
		sender.send(group, 7777, "stream")
	}
	for range 5 {
		if got := listener.receive(2 * time.Second); got != "stream" {
			t.Fatalf("the listener got %q, want the stream", got)
		}
	}
	deaf.never("stream that nobody here wants", 300*time.Millisecond, func(f []byte) bool { return l2.MACFromBytes(f) == groupMAC })
	late := hosts[2].datagrams("udp4", 7777, group)
	pause(200 * time.Millisecond)
	sender.send(group, 7777, "stream")
	if got := late.receive(2 * time.Second); got != "stream" {
		t.Errorf("who joined later got %q, want the stream", got)
	}
}

// A bridge that is the querier sends the reports of its own hosts to no other port, so no other
// switch knows what they have joined. The streams of other sites reach them all the same.
func TestSites_streamsReachTheHostsOfTheQuerier(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	listener, sender := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	queries4, queries6 := sender.raw(), sender.raw()
	// It asks at once. Hosts have 0.2 s to answer.
	berlin.NS.Run(t, "ip", "link", "set", "br0", "type", "bridge", "mcast_query_response_interval", "20", "mcast_querier", "1")
	for dst, heard := range map[l2.MAC]*raw{0x01005e000001: queries4, 0x333300000001: queries6} {
		heard.expect(fmt.Sprintf("a query to %v", dst), 5*time.Second, func(f []byte) bool { return l2.MACFromBytes(f) == dst })
	}
	pause(queryAnswered)
	for _, c := range []struct{ network, group string }{{"udp4", "239.7.7.9"}, {"udp6", "ff15::79"}} {
		joined := listener.datagrams(c.network, 7779, c.group)
		stream := sender.datagrams(c.network, 0, c.group)
		stream.send(c.group, 7779, "stream")
		if got := joined.receive(2 * time.Second); got != "stream" {
			t.Errorf("%s: a host of the querier's site got %q, want the stream", c.group, got)
		}
	}
}

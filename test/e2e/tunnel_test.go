package e2e

import (
	"fmt"
	"testing"
	"time"

	"tund/internal/testnet"
)

func TestTunnel_carriesBothFamiliesOverEither(t *testing.T) {
	t.Parallel()
	for _, ipv6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("underlay IPv6=%v", ipv6), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, ipv6)
			p.start()
			exercise(t, p.endA(), p.endB(), quickBytes)
			for _, g := range []*gateway{p.a, p.b} {
				s := g.Status()
				if len(s.Devices) != 1 || !s.Devices[0].Offload || s.Peers[0].State != "up" || s.Peers[0].LastError != "" {
					t.Errorf("%s: %+v", g.Name, s)
				}
			}
			p.a.Stop()
			p.b.Stop()
		})
	}
}

func TestTunnel_carriesTheSameWithoutOffload(t *testing.T) {
	t.Parallel()
	off := []string{`offload = "off"`}
	for _, c := range []struct {
		name string
		a, b []string
	}{{"one side", off, nil}, {"both sides", off, off}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, false)
			p.a.tunnel, p.b.tunnel = c.a, c.b
			p.start()
			if s := p.a.Status(); s.Devices[0].Offload {
				t.Error("the device has offload")
			}
			exercise(t, p.endA(), p.endB(), smallBytes)
			p.a.Stop()
			p.b.Stop()
		})
	}
}

// behind puts a host on a cable of its own behind a gateway, which forwards for it.
func behind(t *testing.T, g *gateway, network4, network6 string) end {
	t.Helper()
	host := testnet.New(t)
	_, lan := testnet.Veth(t, g.NS, host, []string{network4 + ".1/24", network6 + "::1/64"}, []string{network4 + ".2/24", network6 + "::2/64"})
	host.Run(t, "ip", "route", "add", "default", "via", network4+".1", "dev", lan)
	host.Run(t, "ip", "-6", "route", "add", "default", "via", network6+"::1", "dev", lan)
	g.NS.Run(t, "sysctl", "-q", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	return end{host, network4 + ".2", network6 + "::2"}
}

func TestTunnel_forwardsBetweenTheNetworksBehind(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	hostA, hostB := behind(t, p.a, "10.20.0", "fd20"), behind(t, p.b, "10.30.0", "fd30")
	p.a.peers[0].allowed = append(p.a.peers[0].allowed, "10.30.0.0/16", "fd30::/48")
	p.b.peers[0].allowed = append(p.b.peers[0].allowed, "10.20.0.0/16", "fd20::/48")
	p.start()
	exercise(t, hostA, hostB, smallBytes)
	p.a.Stop()
	p.b.Stop()
}

func TestTunnel_triesEndpointsInTurn(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	peer := &p.a.peers[0]
	peer.endpoint, peer.others = "nosuch.invalid:51820", []string{endpoint("192.0.2.99"), endpoint("[" + underlayB6 + "]")}
	p.b.peers[0].endpoint = ""
	p.start()
	p.a.Says(startLimit, "does not resolve", "nosuch.invalid")
	pings := startPing(t, p.a.NS, p.endB().v4, 200*time.Millisecond)
	pings.goesOn("through the endpoint that works", 15*time.Second)
	if got := p.a.Peer("berlin").Endpoint; got != endpoint("["+underlayB6+"]") {
		t.Errorf("endpoint %s, want that of IPv6", got)
	}
	p.a.Stop()
	p.b.Stop()
}

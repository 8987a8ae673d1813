package tunnel

import (
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/tunnel/udp"
)

// The first packet may come before the word that the link is up.
func TestSetUp_asksTheDeviceBeforeAPacketIsLost(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		up := false
		a.tun.env.Link.Up = []func() bool{func() bool { return up }}
		a.tun.SetUp(false)
		a.sends(b, 10)
		b.expect(0, "while it is down")
		up = true
		a.sends(b, 10)
		b.expect(1, "up, and nobody said so yet")
		a.tun.SetUp(true)
		a.tun.SetUp(false)
		up = false
		b.sends(a, 10)
		a.expect(0, "down again")
	})
}

func TestSetUp_greetsEvenIfAPacketWasFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.knows(b, true, func(c *PeerChange) { every := 25 * time.Second; c.Keepalive = &every })
		b.knows(a, false)
		synctest.Wait()
		a.tun.env.Link.Up = []func() bool{func() bool { return true }}
		a.tun.SetUp(false)
		// Of virtual time: two initiations of one moment are one to the peer.
		time.Sleep(time.Second)
		w.ears.take()
		a.tun.env.Link.Down() // a lane was here
		a.tun.SetUp(true)
		synctest.Wait()
		if i, _, _, _, empty := w.ears.take(); i != 1 || empty == 0 {
			t.Errorf("%d initiations and %d keepalives when the link came up, want 1 and at least 1", i, empty)
		}
	})
}

// allowed lists the allowed IPs of each peer.
func allowed(tun *Tunnel) map[keys.PublicKey][]string {
	all := map[keys.PublicKey][]string{}
	for _, p := range tun.Status().Peers {
		all[p.PublicKey] = nil
		for _, prefix := range p.AllowedIPs {
			all[p.PublicKey] = append(all[p.PublicKey], prefix.String())
		}
	}
	return all
}

// The order within one change is that of WireGuard's configuration socket.
func TestConfigure_oneChangeIsAppliedInItsOrder(t *testing.T) {
	p1, p2 := keys.PublicKey{1}, keys.PublicKey{2}
	x, y := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")
	list := func(p ...netip.Prefix) []netip.Prefix { return p }
	tests := []struct {
		name   string
		change []PeerChange
		want   map[keys.PublicKey][]string
	}{
		{"taken and given back", []PeerChange{
			{PublicKey: p2, AllowedIPs: list(x)}, {PublicKey: p2, RemoveAllowedIPs: list(x)}},
			map[keys.PublicKey][]string{p1: {"10.2.0.0/16"}, p2: nil}},
		{"another's is not removed", []PeerChange{{PublicKey: p2, RemoveAllowedIPs: list(x)}},
			map[keys.PublicKey][]string{p1: {"10.1.0.0/16", "10.2.0.0/16"}, p2: nil}},
		{"removed before it is added", []PeerChange{{PublicKey: p1, RemoveAllowedIPs: list(x), AllowedIPs: list(x)}},
			map[keys.PublicKey][]string{p1: {"10.1.0.0/16", "10.2.0.0/16"}, p2: nil}},
		{"replaced by what follows", []PeerChange{{PublicKey: p1, ReplaceAllowedIPs: true, AllowedIPs: list(y)}},
			map[keys.PublicKey][]string{p1: {"10.2.0.0/16"}, p2: nil}},
		{"replaced twice", []PeerChange{
			{PublicKey: p1, ReplaceAllowedIPs: true, AllowedIPs: list(x)}, {PublicKey: p1, ReplaceAllowedIPs: true, AllowedIPs: list(y)}},
			map[keys.PublicKey][]string{p1: {"10.2.0.0/16"}, p2: nil}},
		{"added, then replaced", []PeerChange{
			{PublicKey: p1, AllowedIPs: list(x)}, {PublicKey: p1, ReplaceAllowedIPs: true}},
			map[keys.PublicKey][]string{p1: nil, p2: nil}},
		{"moved before its owner is replaced", []PeerChange{
			{PublicKey: p2, AllowedIPs: list(x)}, {PublicKey: p1, ReplaceAllowedIPs: true}},
			map[keys.PublicKey][]string{p1: nil, p2: {"10.1.0.0/16"}}},
		{"removed and made again", []PeerChange{
			{PublicKey: p1, Remove: true}, {PublicKey: p1, AllowedIPs: list(y)}},
			map[keys.PublicKey][]string{p1: {"10.2.0.0/16"}, p2: nil}},
		{"removed at the end", []PeerChange{
			{PublicKey: p1, AllowedIPs: list(y)}, {PublicKey: p1, Remove: true}},
			map[keys.PublicKey][]string{p2: nil}},
		{"both removed", []PeerChange{{PublicKey: p1, Remove: true}, {PublicKey: p2, Remove: true}},
			map[keys.PublicKey][]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				a := w.end()
				a.configure(Change{Peers: []PeerChange{{PublicKey: p1, AllowedIPs: list(x, y)}, {PublicKey: p2}}})
				a.configure(Change{Peers: tt.change})
				if got := allowed(a.tun); !reflect.DeepEqual(got, tt.want) {
					t.Errorf("allowed IPs %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestConfigure_removePeersBeginsAnew(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		stranger := keys.PublicKey{9}
		psk, every := keys.PresharedKey{1}, time.Minute
		a.configure(Change{Peers: []PeerChange{{PublicKey: stranger}, {PublicKey: b.key.Public(), PresharedKey: &psk, Keepalive: &every}}})
		a.configure(Change{RemovePeers: true, Peers: []PeerChange{{PublicKey: b.key.Public()}}})
		peers := a.tun.Status().Peers
		if len(peers) != 1 {
			t.Fatalf("%d peers, want 1", len(peers))
		}
		if p := peers[0]; !p.PresharedKey.IsZero() || p.Keepalive != 0 || p.Session != nil || p.Endpoint.IsValid() || p.RxBytes != 0 || len(p.AllowedIPs) != 0 {
			t.Errorf("peer %+v, want one that starts over", p)
		}
	})
}

// Only peers whose path has changed forget the address they are answered from, and hear from us.
func TestPathsChanged_othersGoOn(t *testing.T) {
	inBubble(t, func(w *world) {
		hub := w.end()
		var spokes []*end
		for range 2 {
			s := w.end()
			hub.knows(s, false)
			s.knows(hub, true)
			s.sends(hub, 10)
			spokes = append(spokes, s)
		}
		hub.expect(2, "from the spokes")
		source := netip.MustParseAddr("192.0.2.77")
		for _, s := range spokes {
			hub.peerOf(s).SetEndpoint(udp.Endpoint{Addr: s.addr, Source: source, Ifindex: 3})
		}
		w.ears.take()
		hub.tun.PathsChanged(func(ep udp.Endpoint) bool { return ep.Addr == spokes[0].addr && ep.Source == source && ep.Ifindex == 3 })
		synctest.Wait()
		if got := hub.peerOf(spokes[0]).Endpoint(); got.Source.IsValid() || got.Ifindex != 0 {
			t.Errorf("endpoint %+v of a path that has changed, want no source", got)
		}
		if got := hub.peerOf(spokes[1]).Endpoint(); got.Source != source {
			t.Errorf("endpoint %+v of a path that has not changed, want source %v", got, source)
		}
		if i, r, _, data, empty := w.ears.take(); empty != 1 || i+r+data != 0 {
			t.Errorf("%d keepalives and %d other messages, want 1 and 0", empty, i+r+data)
		}
	})
}

// A lane may look whether the device is up just before SetUp(false), and stage a packet just after
// it.
func TestSetUp_wishFromBetweenIsGrantedOnceUp(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.tun.SetUp(false)
		a.tun.env.Stage(a.peerOf(b), packet(a.inner, b.inner, 12), w.clock.Now())
		passes(time.Second)
		a.tun.SetUp(true)
		passes(time.Second)
		a.sends(b, 10)
		if b.got() == 0 {
			t.Error("no handshake begins after the device came up")
		}
	})
}

package compat

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// star is a hub with spokes that each have a session with it.
type star struct {
	hub    *device
	spokes []*device
}

func spokeAddr(i int) string { return fmt.Sprintf("10.9.0.%d", i+2) }

// conf is the hub's configuration without some spokes.
func (s *star) conf(more string, without ...int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Interface]\nPrivateKey = %s\nListenPort = %s\n", s.hub.key.Base64(), portA)
	for i, d := range s.spokes {
		skip := false
		for _, w := range without {
			skip = skip || w == i
		}
		if !skip {
			fmt.Fprintf(&b, "[Peer]\nPublicKey = %s\nAllowedIPs = %s/32\n%s", d.key.Public(), spokeAddr(i), more)
		}
	}
	return b.String()
}

// newStar makes a hub with n spokes in one namespace each; everybody has answered a ping.
func newStar(t testing.TB, n int) *star {
	t.Helper()
	ns := testnet.New(t)
	s := &star{hub: start(t, ns, testnet.Tund(t))}
	for i := range n {
		far := testnet.New(t)
		near := fmt.Sprintf("192.0.2.%d", 4*i+1)
		testnet.Veth(t, ns, far, []string{near + "/30"}, []string{fmt.Sprintf("192.0.2.%d/30", 4*i+2)})
		d := start(t, far, testnet.Tund(t))
		d.set("private-key", d.keyFile(), "listen-port", portB, "peer", s.hub.key.Public().String(),
			"endpoint", near+":"+portA, "allowed-ips", innerA+"/32")
		d.up(spokeAddr(i) + "/24")
		s.spokes = append(s.spokes, d)
	}
	s.hub.apply("setconf", s.conf("PersistentKeepalive = 25\n"))
	s.hub.up(innerA + "/24")
	for i, d := range s.spokes {
		mustPing(t, d.inner, innerA)
		mustPing(t, s.hub.inner, spokeAddr(i))
	}
	return s
}

// check fails when a spoke in want has not the session it had, or another one has.
func (s *star) check(t *testing.T, what string, before map[string]int64, want ...int) {
	t.Helper()
	now := s.hub.peers()
	for i, d := range s.spokes {
		p, there := now[d.key.Public()]
		kept := false
		for _, w := range want {
			kept = kept || w == i
		}
		switch {
		case kept && (!there || p.handshake != before[d.name] || p.rx == 0):
			t.Errorf("%s: spoke %d: handshake %d of %d, rx %d: its session did not survive", what, i, p.handshake, before[d.name], p.rx)
		case kept:
			if err := ping(s.hub.inner, spokeAddr(i)); err != nil {
				t.Errorf("%s: spoke %d: %v", what, i, err)
			}
		case there:
			t.Errorf("%s: spoke %d is still there", what, i)
		}
	}
	if len(now) != len(want) {
		t.Errorf("%s: %d peers, want %d", what, len(now), len(want))
	}
}

func TestSyncconf_sessionsOfTheOthersSurvive(t *testing.T) {
	t.Parallel()
	s := newStar(t, 4)
	before := map[string]int64{}
	for _, d := range s.spokes {
		before[d.name] = s.hub.peers()[d.key.Public()].handshake
	}
	// A second later a new handshake would have another time.
	testnet.Await(t, "the next second", limit, func() bool { return time.Now().Unix() > before[s.spokes[3].name] })

	s.hub.apply("syncconf", s.conf("PersistentKeepalive = 25\n"))
	s.check(t, "syncconf of the same", before, 0, 1, 2, 3)
	s.hub.apply("syncconf", s.conf("PersistentKeepalive = 25\n", 1))
	s.check(t, "syncconf without one", before, 0, 2, 3)
	s.hub.apply("syncconf", s.conf("PersistentKeepalive = 0\n", 1))
	s.check(t, "syncconf without keepalive", before, 0, 2, 3)
	for key, p := range s.hub.peers() {
		if p.keepalive != "off" {
			t.Errorf("peer %v: keepalive %s after it was turned off", key, p.keepalive)
		}
	}
	s.hub.apply("addconf", "[Peer]\nPublicKey = "+publicKeys(t, 1)[0]+"\nAllowedIPs = 10.77.0.0/16\n")
	s.hub.set("peer", s.spokes[3].key.Public().String(), "allowed-ips", spokeAddr(3)+"/32,10.78.0.0/16")
	s.hub.set("fwmark", "0x77")
	s.hub.set("fwmark", "0")
	s.hub.apply("syncconf", s.conf("", 1))
	s.check(t, "addconf, set and syncconf", before, 0, 2, 3)
	s.hub.set("peer", s.spokes[0].key.Public().String(), "remove")
	s.check(t, "set remove", before, 2, 3)
}

// A preshared key that one side drops counts with the next handshake, not before it.
func TestSet_presharedKeyCountsWithTheNextHandshake(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	mustPing(t, p.a.inner, innerB)
	psk := p.a.file("psk", strings.TrimSpace(mustWG(t, p.a, "genpsk"))+"\n")
	p.a.set("peer", p.b.key.Public().String(), "preshared-key", psk)
	if err := ping(p.a.inner, innerB); err != nil {
		t.Errorf("the session in use ended with the change of a preshared key: %v", err)
	}
	p.b.set("peer", p.a.key.Public().String(), "preshared-key", psk)
	// A change of the private key forces the next handshake. Timestamps of initiations go in steps
	// of 17 ms, and one of the same step would be taken for a replay.
	began := time.Now()
	testnet.Await(t, "the next timestamp", limit, func() bool { return time.Since(began) > 50*time.Millisecond })
	p.a.set("private-key", "/dev/null")
	p.a.set("private-key", p.a.keyFile())
	mustPing(t, p.a.inner, innerB)
}

func mustWG(t testing.TB, d *device, args ...string) string {
	t.Helper()
	out, err := d.tryWG("", args...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

// The link going down ends sessions, and coming up with a persistent keepalive begins one without
// any packet.
func TestLink_downEndsSessionsAndUpGreets(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	mustPing(t, p.a.inner, innerB)
	keyB := p.b.key.Public()
	p.a.inner.Run(t, "ip", "link", "set", p.a.name, "down")
	tx := p.a.peers()[keyB].tx
	_ = ping(p.b.inner, innerA) // nobody answers
	if now := p.a.peers()[keyB].tx; now != tx {
		t.Errorf("a device that is down sent %d bytes", now-tx)
	}
	p.a.set("peer", keyB.String(), "persistent-keepalive", "20")
	if now := p.a.peers()[keyB].tx; now != tx {
		t.Errorf("a device that is down sent %d bytes when the keepalive was turned on", now-tx)
	}
	p.a.inner.Run(t, "ip", "link", "set", p.a.name, "up")
	testnet.Await(t, "greeting after the link came up", limit, func() bool { return p.a.peers()[keyB].tx >= tx+148+32 })
	mustPing(t, p.b.inner, innerA)
}

package ethernet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// wireguardGo is a plain WireGuard peer: other people's program, in a namespace on the underlay.
type wireguardGo struct {
	t    *testing.T
	ns   *testnet.NS
	key  keys.PrivateKey
	addr string
}

func (w *wan) wireguardGo(t *testing.T) *wireguardGo {
	t.Helper()
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	g := &wireguardGo{t: t, ns: testnet.New(t), key: key}
	g.addr, _ = w.plug(g.ns)
	if _, err := g.ns.Try("sh", "-c", "command -v wireguard-go && command -v wg"); err != nil {
		testnet.Lacks(t, "wireguard-go or wg is not installed (Debian: wireguard-go, wireguard-tools)")
	}
	return g
}

// start runs it with a site as its peer, through which it reaches 10.9.0.0/24.
func (g *wireguardGo) start(s *site) {
	g.t.Helper()
	// Its control socket lies in a fixed directory: the name of the device has to differ between
	// tests.
	dev := fmt.Sprintf("wg%d-%s", os.Getpid()%100000, g.addr[strings.LastIndexByte(g.addr, '.')+1:])
	dev += fmt.Sprint(time.Now().UnixNano() % 1000)
	g.ns.Start(g.t, "env", "WG_PROCESS_FOREGROUND=1", "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1", "wireguard-go", "-f", dev)
	testnet.Await(g.t, "wireguard-go", 10*time.Second, func() bool {
		_, err := g.ns.Try("wg", "show", dev)
		return err == nil
	})
	dir := testnet.Scratch(g.t)
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(g.key.Base64()), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.ns.Run(g.t, "wg", "set", dev, "private-key", filepath.Join(dir, "key"), "listen-port", "51820",
		"peer", s.Key.Public().String(), "endpoint", s.addr+":51820", "allowed-ips", "10.9.0.0/24")
	g.ns.Run(g.t, "ip", "address", "add", "10.9.0.9/24", "dev", dev)
	g.ns.Run(g.t, "ip", "link", "set", dev, "up")
}

// A plain WireGuard peer of an instance with [tap] is never sent a frame: what it is sent is what
// its own traffic makes.
func TestMixed_plainPeerIsNeverSentAFrame(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, paris := w.site("berlin"), w.site("paris")
	mesh(berlin, paris)
	berlin.tun = []string{`address = ["10.9.0.1/24"]`}
	phone := w.wireguardGo(t)
	berlin.peers = append(berlin.peers, &peer{name: "phone", key: phone.key.Public(), endpoint: phone.addr + ":51820",
		plain: true, allowed: "10.9.0.9/32"})
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	phone.start(berlin)
	if out, err := phone.ns.Try("ping", "-n", "-c", "3", "-i", "0.1", "-W", "5", "10.9.0.1"); err != nil {
		t.Fatalf("phone does not reach berlin: %v\n%s", err, out)
	}
	before := berlin.Peer("phone")
	port := a.raw()
	for i := range 200 {
		port.send(plainFrame(l2.Broadcast, a.mac, fmt.Sprint("broadcast ", i)))
		port.send(plainFrame(0x02eeeeeeeeee, a.mac, fmt.Sprint("unknown ", i)))
	}
	a.pings(b.v4, 5)
	after := berlin.Peer("phone")
	// A keepalive may be due; two hundred frames would be 400 packets.
	if sent := after.TxPackets - before.TxPackets; sent > 2 {
		t.Errorf("the plain peer was sent %d packets while frames were flooded, want none but a keepalive", sent)
	}
	if after.Ethernet || carries(after) {
		t.Errorf("the plain peer is said to carry Ethernet: %+v", after)
	}
	if tx := berlin.Peer("paris").TxPackets; tx < 200 {
		t.Errorf("paris was sent %d packets, want the flood", tx)
	}
}

// ethernet = true for a peer that is not tund: it is asked in messages that it drops, never sent a
// frame, and the operator is told.
func TestMixed_ethernetWithAPeerThatIsNotTund(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin := w.site("berlin")
	berlin.tun = []string{`address = ["10.9.0.1/24"]`}
	phone := w.wireguardGo(t)
	berlin.peers = append(berlin.peers, &peer{name: "phone", key: phone.key.Public(), endpoint: phone.addr + ":51820", allowed: "10.9.0.9/32"})
	a := berlin.host(1)
	berlin.start()
	phone.start(berlin)
	if out, err := phone.ns.Try("ping", "-n", "-c", "3", "-i", "0.1", "-W", "5", "10.9.0.1"); err != nil {
		t.Fatalf("phone does not reach berlin: %v\n%s", err, out)
	}
	a.raw().send(plainFrame(l2.Broadcast, a.mac, "broadcast"))
	testnet.Await(t, "a drop for want of a peer with Ethernet", 3*time.Second, func() bool {
		return berlin.tapDevice().Drops["no-ethernet-peer"] > 0
	})
	berlin.Says(15*time.Second, "phone does not answer as a tund with Ethernet", "no frames are sent to it")
	awaitWarning(t, berlin, "phone does not answer")
	if out, err := phone.ns.Try("ping", "-n", "-c", "3", "-i", "0.1", "-W", "5", "10.9.0.1"); err != nil {
		t.Errorf("phone does not reach berlin afterwards: %v\n%s", err, out)
	}
}

// What does not fit together is said at both ends.
func TestMixed_mismatchIsSaidAtBothEnds(t *testing.T) {
	testnet.Require(t)
	for _, c := range []struct {
		name          string
		prepare       func(berlin, paris *site)
		berlin, paris string
	}{
		{"ethernet at one end only", func(_, paris *site) { paris.peers[0].plain = true },
			"paris does not carry Ethernet with us", "berlin would carry Ethernet, but ethernet = true is not set for it here"},
		{"no [tap] at the other end", func(_, paris *site) {
			paris.noTap = true
			paris.tun = []string{`address = ["10.9.0.2/24"]`}
			paris.peers[0].plain = true
			paris.peers[0].allowed = "10.9.0.1/32"
		}, "paris does not answer as a tund with Ethernet", "peer wants to carry Ethernet, but there is no [tap] here"},
		{"another MTU", func(berlin, _ *site) { berlin.tap = []string{"mtu = 1400"} },
			"paris carries frames of up to 1500 bytes", "berlin carries frames of up to 1400 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			beside(t)
			w := newWAN(t)
			berlin, paris := w.site("berlin"), w.site("paris")
			mesh(berlin, paris)
			c.prepare(berlin, paris)
			start0(t, berlin, paris)
			berlin.Says(15*time.Second, c.berlin)
			paris.Says(15*time.Second, c.paris)
			awaitWarning(t, berlin, c.berlin)
		})
	}
}

// One instance with both devices, one session: packets and frames do not disturb each other.
func TestMixed_bothDevicesInOneInstance(t *testing.T) {
	beside(t)
	berlin, paris := withBothDevices(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	sessions := berlin.Peer("paris").Handshake.Completed // two when both began at once
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, err := berlin.NS.Try("ping", "-n", "-q", "-c", "100", "-i", "0.01", "-W", "5", "10.9.0.2")
		if err != nil || !strings.Contains(out, "100 received") {
			t.Errorf("through the TUN: %v\n%s", err, out)
		}
	}()
	transfer(t, a, b, b.v4, 64<<20)
	transfer(t, b, a, a.v4, 64<<20)
	<-done
	if n := berlin.Peer("paris").Handshake.Completed; n != sessions {
		t.Errorf("%d sessions, want the %d of the start for both devices", n, sessions)
	}
}

// withBothDevices makes two sites with [tun] and [tap], not started.
func withBothDevices(t *testing.T) (berlin, paris *site) {
	t.Helper()
	berlin, paris = twoSites(t)
	berlin.tun, paris.tun = []string{`address = ["10.9.0.1/24"]`}, []string{`address = ["10.9.0.2/24"]`}
	berlin.peers[0].allowed, paris.peers[0].allowed = "10.9.0.2/32", "10.9.0.1/32"
	return berlin, paris
}

// VXLAN of the kernel over [tun], as flannel and others do, beside our own Ethernet.
func TestMixed_kernelVXLANOverTheTUN(t *testing.T) {
	beside(t)
	w := newWAN(t)
	berlin, paris := w.site("berlin"), w.site("paris")
	mesh(berlin, paris)
	for i, s := range []*site{berlin, paris} {
		s.noTap = true
		s.peers[0].plain = true
		s.tun = []string{fmt.Sprintf(`address = ["10.9.0.%d/24"]`, i+1)}
		s.peers[0].allowed = fmt.Sprintf("10.9.0.%d/32", 2-i)
	}
	a, b := berlin.host(1), paris.host(2)
	start0(t, berlin, paris)
	for i, s := range []*site{berlin, paris} {
		s.NS.Run(t, "ip", "link", "add", "vx0", "type", "vxlan", "id", "42", "dstport", "4789", "dev", "tun0",
			"local", fmt.Sprintf("10.9.0.%d", i+1), "remote", fmt.Sprintf("10.9.0.%d", 2-i))
		s.NS.Run(t, "ip", "link", "set", "vx0", "master", "br0")
		s.NS.Run(t, "ip", "link", "set", "vx0", "up")
	}
	// VXLAN does not cut frames: hosts have to know of both overheads.
	for _, h := range []*host{a, b} {
		h.ns.Run(t, "ip", "link", "set", h.dev, "mtu", "1370")
	}
	a.reaches(b.v4, 10*time.Second)
	a.pings(b.v4, 3)
	a.pings(b.v6(), 3)
	rate := transfer(t, a, b, b.v4, 16<<20)
	t.Logf("%.2f Gbit/s", rate*8/1e9)
}

// VXLAN with a multicast group, as in the article, among hosts of a LAN that tund makes: its
// multicast crosses.
func TestMixed_multicastVXLANAcrossTheSwitch(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	for i, h := range []*host{a, b} {
		h.ns.Run(t, "ip", "link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", "4789", "group", "239.1.1.1", "dev", h.dev)
		h.ns.Run(t, "ip", "address", "add", fmt.Sprintf("10.20.1.%d/24", i+2), "dev", "vx0")
		h.ns.Run(t, "ip", "link", "set", "vx0", "up")
	}
	a.reaches("10.20.1.3", 5*time.Second)
	b.pings("10.20.1.2", 5)
}

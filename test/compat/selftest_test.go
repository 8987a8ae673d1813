package compat

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/testnet"
)

// The tests of this file show properties that the kernel's self-test
// (tools/testing/selftests/wireguard) demands of the kernel's own WireGuard.

func TestSelftest_aKeyIsChangedAndTheHandshakeFollowsAtOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	mustPing(t, p.a.inner, innerB)
	for range 3 {
		old := p.a.key
		key, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		p.a.key = key
		p.a.set("private-key", p.a.keyFile())
		p.b.set("peer", key.Public().String(), "allowed-ips", innerA+"/32,"+innerA6+"/128", "peer", old.Public().String(), "remove")
		if err := ping(p.a.inner, innerB); err != nil {
			t.Errorf("the first ping after a change of keys: %v", err)
		}
	}
}

func TestSelftest_keysAreClampedShownAndRemoved(t *testing.T) {
	t.Parallel()
	d := start(t, testnet.New(t), testnet.Tund(t))
	var raw keys.PrivateKey
	for i := range raw {
		raw[i] = 0xff
	}
	d.set("private-key", d.file("key", raw.Base64()+"\n"))
	raw.Clamp()
	if got := strings.TrimSpace(d.wg("show", "private-key")); got != raw.Base64() {
		t.Errorf("private key %s, want %s", got, raw.Base64())
	}
	d.set("private-key", "/dev/null")
	if got := strings.TrimSpace(d.wg("show", "private-key")); got != "(none)" {
		t.Errorf("private key %s after it was removed", got)
	}
}

func TestSelftest_ourOwnKeyAsAPeerIsIgnored(t *testing.T) {
	t.Parallel()
	d := start(t, testnet.New(t), testnet.Tund(t))
	own, other := d.key.Public().String(), publicKeys(t, 1)[0]
	d.set("private-key", d.keyFile(), "peer", own, "allowed-ips", "10.0.0.0/8", "peer", other)
	if got := d.wg("show", "peers"); got != other+"\n" {
		t.Errorf("peers:\n%s", got)
	}
	// And a peer whose key becomes ours goes.
	d.set("private-key", "/dev/null", "peer", own)
	if got := d.wg("show", "peers"); got != other+"\n"+own+"\n" {
		t.Errorf("peers without a key of ours:\n%s", got)
	}
	d.set("private-key", d.keyFile())
	if got := d.wg("show", "peers"); got != other+"\n" {
		t.Errorf("peers after the key is ours:\n%s", got)
	}
}

// lowOrder are the points of small order of Curve25519, in hexadecimal (cr.yp.to/ecdh.html).
var lowOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func TestSelftest_pointsOfLowOrderHearNothing(t *testing.T) {
	t.Parallel()
	d := start(t, testnet.New(t), testnet.Tund(t))
	var conn *net.UDPConn
	d.ns.Do(func() {
		var err error
		if conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = conn.Close() }()
	d.set("private-key", d.keyFile())
	d.up("10.9.0.1/24")
	request := "set=1\n"
	for i, point := range lowOrder {
		request += fmt.Sprintf("public_key=%s\nendpoint=%v\npersistent_keepalive_interval=1\nallowed_ip=10.9.0.%d/32\n", point, conn.LocalAddr(), i+2)
	}
	if answer, err := d.ask(request + "\n"); err != nil || answer != "errno=0\n\n" {
		t.Fatalf("set is answered with %q (%v)", answer, err)
	}
	for i := range lowOrder {
		_, _ = d.inner.Try("ping", "-c", "1", "-W", "0.01", fmt.Sprintf("10.9.0.%d", i+2))
	}
	_ = conn.SetReadDeadline(time.Now().Add(1500 * time.Millisecond)) // past the first keepalive
	if n, from, err := conn.ReadFromUDP(make([]byte, 2000)); err == nil {
		t.Errorf("%d bytes came from %v", n, from)
	}
	all := d.peers()
	if len(all) != len(lowOrder) {
		t.Errorf("%d peers, want %d", len(all), len(lowOrder))
	}
	for key, p := range all {
		if p.tx != 0 || p.rx != 0 || p.handshake != 0 {
			t.Errorf("%v: %+v, want no traffic", key, p)
		}
	}
}

func TestSelftest_aTunnelInsideATunnel(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	mustPing(t, p.a.inner, innerB)
	in := &pair{a: start(t, p.a.inner, testnet.Tund(t)), b: start(t, p.b.inner, testnet.Tund(t))}
	in.a.set("private-key", in.a.keyFile(), "listen-port", "1001", "peer", in.b.key.Public().String(),
		"endpoint", innerB+":1002", "allowed-ips", "10.10.0.2/32")
	in.b.set("private-key", in.b.keyFile(), "listen-port", "1002", "peer", in.a.key.Public().String(), "allowed-ips", "10.10.0.1/32")
	for _, d := range []*device{in.a, in.b} {
		d.inner.Run(t, "ip", "link", "set", d.name, "mtu", "1340")
	}
	in.a.up("10.10.0.1/24")
	in.b.up("10.10.0.2/24")
	mustPing(t, in.a.inner, "10.10.0.2")
	mustPing(t, in.b.inner, "10.10.0.1", "-s", "1300", "-M", "do")
}

// An endpoint that is reached through the tunnel itself makes a loop. It must not run on.
func TestSelftest_aRoutingLoopIsBounded(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	mustPing(t, p.a.inner, innerB)
	sent := func() uint64 { // packets that the host handed to the device
		t.Helper()
		text := p.a.inner.Run(t, "cat", "/sys/class/net/"+p.a.name+"/statistics/tx_packets")
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	p.a.set("peer", p.b.key.Public().String(), "endpoint", innerB+":"+portB, "persistent-keepalive", "1")
	before := sent()
	for range 3 {
		_ = ping(p.a.inner, innerB)
	}
	if n := sent() - before; n > 300 {
		t.Errorf("%d packets went round", n)
	}
	// The way out: a proper endpoint, at once.
	p.a.set("peer", p.b.key.Public().String(), "endpoint", outerB+":"+portB)
	mustPing(t, p.a.inner, innerB)
}

// A packet is padded up to the MTU of its route, not that of the device.
func TestSelftest_paddingStopsAtTheRouteMTU(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	far := testnet.New(t) // the devices live elsewhere than their sockets
	p.b.move(far)
	p.b.up(innerB+"/24", innerB6+"/64")
	for _, d := range []*device{p.a, p.b} {
		d.inner.Run(t, "ip", "link", "set", d.name, "mtu", "1300")
	}
	mustPing(t, p.a.inner, innerB)
	const (
		routeMTU = 1299
		// As a UDP length: WireGuard's header and tag, and UDP's header.
		largest = routeMTU + 32 + 8
		data    = 1269 // makes an IP packet of 1297 bytes, which 16 does not divide
	)
	for _, ns := range []*testnet.NS{p.a.ns, p.b.ns} {
		ns.Run(t, "nft", fmt.Sprintf("add table inet t; add chain inet t in { type filter hook input priority 0; }; "+
			"add rule inet t in udp length > %d counter drop", largest))
	}
	dropped := func() int {
		n := 0
		for _, ns := range []*testnet.NS{p.a.ns, p.b.ns} {
			_, rest, _ := strings.Cut(ns.Run(t, "nft", "list", "table", "inet", "t"), "packets ")
			count, _, _ := strings.Cut(rest, " ")
			one, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			n += one
		}
		return n
	}
	if err := ping(p.a.inner, innerB, "-s", strconv.Itoa(data)); err == nil || dropped() == 0 {
		t.Fatalf("%d bytes were not padded to the device's MTU: this test shows nothing (%v)", data, err)
	}
	p.a.inner.Run(t, "ip", "route", "add", innerB+"/32", "dev", p.a.name, "mtu", strconv.Itoa(routeMTU))
	p.b.inner.Run(t, "ip", "route", "add", innerA+"/32", "dev", p.b.name, "mtu", strconv.Itoa(routeMTU))
	mustPing(t, p.a.inner, innerB, "-s", strconv.Itoa(data))
	before := dropped()
	for size := data - 40; size <= routeMTU-28; size++ {
		if err := ping(p.a.inner, innerB, "-s", strconv.Itoa(size), "-M", "do"); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if n := dropped() - before; n != 0 {
		t.Errorf("%d datagrams were longer than the route's MTU allows", n)
	}
}

// What is larger than the MTU with which the program began passes, wherever the device is by then.
func TestSelftest_packetsOfAnySizePass(t *testing.T) {
	t.Parallel()
	for _, reference := range []string{testnet.Tund(t), testnet.Program(t, "wireguard-go")} {
		p := newPair(t, testnet.Tund(t), reference)
		a, b := testnet.New(t), testnet.New(t)
		p.a.move(a)
		p.b.move(b)
		for _, mtu := range []int{1420, 9000, 34736, 65000} {
			for _, d := range []*device{p.a, p.b} {
				d.inner.Run(t, "ip", "link", "set", d.name, "mtu", strconv.Itoa(mtu))
			}
			if mtu == 1420 {
				p.a.up(innerA+"/24", innerA6+"/64")
				p.b.up(innerB+"/24", innerB6+"/64")
			}
			for _, to := range []string{innerB, innerB6} {
				mustPing(t, p.a.inner, to, "-s", strconv.Itoa(mtu-48), "-M", "do")
				mustPing(t, p.a.inner, to, "-s", "1000")
			}
		}
	}
}

// Everything goes through the tunnel but the tunnel itself, which the mark tells apart, and what
// main knows better.
func TestSelftest_policyRoutingByMark(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	const behind, beside = "192.168.99.7", outerB
	p.b.inner.Run(t, "ip", "address", "add", behind+"/32", "dev", "lo")
	a := p.a.inner
	p.a.set("fwmark", "0x6f", "peer", p.b.key.Public().String(), "allowed-ips", "0.0.0.0/0,::/0")
	a.Run(t, "ip", "route", "add", "default", "dev", p.a.name, "table", "111")
	a.Run(t, "ip", "rule", "add", "not", "fwmark", "0x6f", "table", "111")
	a.Run(t, "ip", "rule", "add", "table", "main", "suppress_prefixlength", "0")
	mustPing(t, a, behind)
	if out, err := a.Try("ping", "-q", "-c", "100", "-f", "-W", "1", behind); err != nil || !strings.Contains(out, " 100 received") {
		t.Errorf("flood: %v: %s", err, out)
	}
	before := p.a.peers()[p.b.key.Public()].tx
	mustPing(t, a, beside) // by the link route of main, past the tunnel
	if now := p.a.peers()[p.b.key.Public()].tx; now != before {
		t.Errorf("a ping to the neighbour sent %d bytes into the tunnel", now-before)
	}
	// Without the mark our own datagrams follow the rule into the tunnel: the neighbour's link
	// route saves them here, a server farther away would be out of reach. With it they do not need
	// that route.
	a.Run(t, "ip", "route", "add", "default", "via", outerB)
	p.b.inner.Run(t, "ip", "address", "add", "198.51.100.9/32", "dev", "lo")
	p.a.set("peer", p.b.key.Public().String(), "endpoint", "198.51.100.9:"+portB)
	mustPing(t, a, behind)
}

// Up and down are seen in another namespace.
func TestSelftest_aDeviceMovedAwayIsFollowedUpAndDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	far := testnet.New(t)
	p.a.move(far)
	p.a.up(innerA + "/24")
	mustPing(t, far, innerB)
	far.Run(t, "ip", "link", "set", p.a.name, "down")
	if err := ping(p.b.inner, innerA); err == nil {
		t.Error("a device that is down answers")
	}
	before := p.a.peers()[p.b.key.Public()].handshake
	testnet.Await(t, "the next second", limit, func() bool { return time.Now().Unix() > before })
	far.Run(t, "ip", "link", "set", p.a.name, "up")
	mustPing(t, far, innerB) // b has a session that a has forgotten; whoever comes back begins
	if now := p.a.peers()[p.b.key.Public()].handshake; now == before {
		t.Error("the session outlived the link")
	}
}

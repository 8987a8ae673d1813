package e2e

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// The flow beside which ICMP messages are forged: 26 datagrams of 1,200 bytes every 5 ms are 50
// Mbit/s.
const (
	forgedPerTick = 10 // every forgedTick: 2,000 a second
	forgedTick    = 5 * time.Millisecond
	forgedFor     = 5 * time.Second
	steadySize    = 1200
	steadyPerTick = 26
	// One datagram in so many may be lost: the machine is busy with other tests.
	steadyLossesOf = 1000
)

// TestICMP_forgedMessagesCostNothing: somebody who sees nothing of the tunnel's traffic forges ICMP
// errors of all kinds about it, 2,000 a second. Neither a flow nor the device's MTU notices.
func TestICMP_forgedMessagesCostNothing(t *testing.T) {
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			ipv6 := family == "IPv6"
			p := newPair(t, ipv6)
			enemy := testnet.New(t)
			testnet.Veth(t, p.a.NS, enemy, []string{"198.51.100.1/24", "2001:db8:66::1/64"}, []string{"198.51.100.2/24", "2001:db8:66::2/64"})
			p.start()
			ping(t, p.a.NS, p.endB().v4, 1)
			device, known := p.a.Status().Devices[0], p.a.Peer("berlin").Endpoint
			stop, forged := make(chan struct{}), make(chan int)
			go func() { forged <- forge(t, enemy, ipv6, stop) }()
			sent, received := steadyFlow(t, p.a.NS, p.b.NS, p.endB().v4, forgedFor)
			answers, _ := p.a.NS.Try("ping", "-n", "-c10", "-i0.05", "-W2", "-Mdo", "-s1392", p.endB().v4)
			large := strings.Count(answers, "bytes from")
			close(stop)
			t.Logf("%d messages forged; %d of %d datagrams arrived; drops %v", <-forged, received, sent, p.a.Status().Drops)
			if received < sent-sent/steadyLossesOf {
				t.Errorf("%d of %d datagrams arrived beside forged ICMP messages", received, sent)
			}
			if large != 10 {
				t.Errorf("%d of 10 packets of 1,420 bytes were answered", large)
			}
			if got := p.a.Status().Devices[0].MTU; got != device.MTU {
				t.Errorf("the device's MTU went from %d to %d", device.MTU, got)
			}
			if got := p.a.Peer("berlin"); got.Endpoint != known || got.State != "up" {
				t.Errorf("the peer is %s at %s, was up at %s", got.State, got.Endpoint, known)
			}
			p.a.Stop()
			p.b.Stop()
		})
	}
}

// TestICMP_narrowPathThatMayNotTell: a hop of the path takes packets of at most 1,300 bytes and may
// not say so. Over the kernel's WireGuard everything passes, because routers fragment its
// datagrams.
func TestICMP_narrowPathThatMayNotTell(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	near, far := testnet.New(t), testnet.New(t) // routers
	testnet.Veth(t, p.a.NS, near, []string{"198.51.100.1/24"}, []string{"198.51.100.254/24"})
	testnet.Veth(t, p.b.NS, far, []string{"203.0.113.1/24"}, []string{"203.0.113.254/24"})
	toFar, toNear := testnet.Veth(t, near, far, []string{"10.255.0.1/30"}, []string{"10.255.0.2/30"})
	for router, link := range map[*testnet.NS]string{near: toFar, far: toNear} {
		router.Run(t, "ip", "link", "set", link, "mtu", "1300")
		router.Run(t, "sysctl", "-q", "net.ipv4.ip_forward=1")
		router.Run(t, "nft", "add table ip e2e; add chain ip e2e out { type filter hook output priority 0; }; "+
			"add rule ip e2e out icmp type destination-unreachable drop")
	}
	near.Run(t, "ip", "route", "add", "203.0.113.0/24", "via", "10.255.0.2")
	far.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "10.255.0.1")
	p.a.NS.Run(t, "ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.254")
	p.b.NS.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "203.0.113.254")
	p.a.peers[0].endpoint, p.b.peers[0].endpoint = endpoint("203.0.113.1"), endpoint("198.51.100.1")
	p.start()
	for _, host := range []string{p.endB().v4, p.endB().v6} {
		size := map[bool]string{true: "1392", false: "1372"}[host == p.endB().v4]
		out, err := p.a.NS.Try("ping", "-n", "-c5", "-i0.1", "-W2", "-Mdo", "-s"+size, host)
		if n := strings.Count(out, "bytes from"); n != 5 || err != nil {
			t.Errorf("%d of 5 packets of 1,420 bytes passed to %s: %v\n%s", n, host, err, out)
		}
	}
	transfer(t, p.a.NS, p.b.NS, p.endB().v4, 4<<20)
	p.a.Stop()
	p.b.Stop()
}

// steadyFlow sends datagrams through the tunnel at a steady rate, and returns how many were sent
// and how many arrived.
func steadyFlow(t testing.TB, from, at *testnet.NS, to string, during time.Duration) (sent, received int) {
	t.Helper()
	sink := packetConn(t, at, net.JoinHostPort(to, "0"))
	source := packetConn(t, from, ":0")
	arrived := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 2*steadySize)
		for {
			if _, err := sink.Read(buf); err != nil {
				arrived <- n
				return
			}
			n++
		}
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	payload := make([]byte, steadySize)
	for began := time.Now(); time.Since(began) < during; <-tick.C {
		for range steadyPerTick {
			if _, err := source.WriteTo(payload, sink.LocalAddr()); err != nil {
				t.Errorf("send: %v", err)
			}
			sent++
		}
	}
	_ = sink.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // the last are under way
	return sent, <-arrived
}

// forge sends ICMP errors of all kinds about the datagrams from A to B until stop is closed, and
// returns their number.
func forge(t testing.TB, ns *testnet.NS, ipv6 bool, stop <-chan struct{}) (sent int) {
	network, local, victim, messages := "ip4:icmp", "0.0.0.0", "198.51.100.1", forgeries4()
	if ipv6 {
		network, local, victim, messages = "ip6:ipv6-icmp", "::", "2001:db8:66::1", forgeries6()
	}
	var conn net.PacketConn
	ns.Do(func() {
		var err error
		if conn, err = net.ListenPacket(network, local); err != nil {
			t.Error(err)
		}
	})
	if conn == nil {
		return 0
	}
	defer func() { _ = conn.Close() }()
	tick := time.NewTicker(forgedTick)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return sent
		case <-tick.C:
		}
		for range forgedPerTick {
			if _, err := conn.WriteTo(messages[sent%len(messages)], &net.IPAddr{IP: net.ParseIP(victim)}); err != nil {
				t.Errorf("forge: %v", err)
				return sent
			}
			sent++
		}
	}
}

// forgery is one ICMP message: a header of eight bytes with 32 bits that depend on its type, then
// the datagram.
func forgery(kind, code byte, rest uint32, datagram []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind, code, 0, 0}, rest)
	return append(b, datagram...)
}

// forgeries4 makes ICMP errors (RFC 792, 1191, 1812) about a datagram from A to B.
func forgeries4() (all [][]byte) {
	a, b := netip.MustParseAddr(underlayA4).As4(), netip.MustParseAddr(underlayB4).As4()
	about := make([]byte, 20, 28)
	about[0], about[6], about[8], about[9] = 0x45, 0x40, 60, 17 // DF
	binary.BigEndian.PutUint16(about[2:], 1480)
	copy(about[12:], a[:])
	copy(about[16:], b[:])
	about = append(about, ports(1460)...)
	add := func(kind, code byte, rest uint32) {
		m := forgery(kind, code, rest, about)
		binary.BigEndian.PutUint16(m[2:], onesComplement(m))
		all = append(all, m)
	}
	for code := range byte(16) {
		add(3, code, 0)
	}
	for _, mtu := range []uint32{68, 552, 600, 1280, 1400} {
		add(3, 4, mtu)
	}
	// Source quench.
	add(4, 0, 0)
	add(5, 1, binary.BigEndian.Uint32(netip.MustParseAddr("198.51.100.2").AsSlice())) // redirect
	// Time exceeded.
	add(11, 0, 0)
	add(11, 1, 0) //
	// Parameter problem.
	add(12, 0, 0)
	return all
}

// forgeries6 makes ICMPv6 errors (RFC 4443) about a datagram from A to B. The kernel fills in the
// checksum.
func forgeries6() (all [][]byte) {
	a, b := netip.MustParseAddr(underlayA6).As16(), netip.MustParseAddr(underlayB6).As16()
	about := make([]byte, 40, 1240)
	about[0], about[6], about[7] = 0x60, 17, 60
	binary.BigEndian.PutUint16(about[4:], 1460)
	copy(about[8:], a[:])
	copy(about[24:], b[:])
	about = append(about, ports(1460)...)
	for code := range byte(7) {
		all = append(all, forgery(1, code, 0, about)) // destination unreachable
	}
	for _, mtu := range []uint32{0, 68, 600, 1280, 1400} {
		all = append(all, forgery(2, 0, mtu, about[:cap(about)])) // packet too big
	}
	all = append(all, forgery(3, 0, 0, about), forgery(3, 1, 0, about)) // time exceeded
	for code := range byte(3) {
		all = append(all, forgery(4, code, 0, about)) // parameter problem
	}
	return all
}

// ports is the header of a UDP datagram between two instances.
func ports(size uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, listenPort)
	b = binary.BigEndian.AppendUint16(b, listenPort)
	b = binary.BigEndian.AppendUint16(b, size)
	return append(b, 0, 0)
}

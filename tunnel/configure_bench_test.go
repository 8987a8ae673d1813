package tunnel

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"tund/crypto/keys"
	"tund/tunnel/l2"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp"
	"tund/tunnel/udp/udptest"
)

// manyPeers is the number of peers beside the one that changes.
const manyPeers = 10_000

// numbered returns the change that makes the peer of a number, with one network behind it.
func numbered(n int, prefix netip.Prefix) PeerChange {
	var key keys.PublicKey
	binary.BigEndian.PutUint32(key[:], uint32(n)+1)
	name, keepalive := key.Short(), 25*time.Second
	port := l2.PortConfig{Name: name, Ethernet: true, PublicKey: [32]byte(key)}
	return PeerChange{
		PublicKey: key, Name: &name, Keepalive: &keepalive, Ethernet: &port,
		ReplaceAllowedIPs: true, AllowedIPs: []netip.Prefix{prefix},
	}
}

// network is the prefix of a number: a /24 in 10.0.0.0/8.
func network(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n)}), 24)
}

// withDevices returns a tunnel with a device of each of these kinds, and no peers.
func withDevices(t testing.TB, kinds ...tundev.Kind) *Tunnel {
	t.Helper()
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := udptest.New(1).Open(netip.MustParseAddrPort("192.0.2.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{PrivateKey: key, Conns: []udp.Conn{conn}, Log: zap.NewNop()}
	for _, kind := range kinds {
		queue := tundevtest.New(1, tundev.Features{})
		o.Devices = append(o.Devices, Device{Name: kind.String(), Kind: kind, MTU: 1420, Queues: []tundev.Queue{queue}})
	}
	tun, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	return tun
}

// withPeers returns a tunnel of both devices with that many peers.
func withPeers(t testing.TB, peers int) *Tunnel {
	t.Helper()
	tun := withDevices(t, tundev.TUN, tundev.TAP)
	var c Change
	for n := range peers {
		c.Peers = append(c.Peers, numbered(n, network(n)))
	}
	if err := tun.Configure(c); err != nil {
		t.Fatal(err)
	}
	return tun
}

// A change of one peer is to cost the same whether there are ten peers or ten thousand.
func BenchmarkConfigure_oneOfManyPeers(b *testing.B) {
	tun := withPeers(b, manyPeers)
	n := 0
	for b.Loop() {
		n++
		if err := tun.Configure(Change{Peers: []PeerChange{numbered(7, network(20_000+n%2))}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConfigure_onePeerComesAndGoes(b *testing.B) {
	tun := withPeers(b, manyPeers)
	for b.Loop() {
		p := numbered(manyPeers, network(manyPeers))
		if err := tun.Configure(Change{Peers: []PeerChange{p}}); err != nil {
			b.Fatal(err)
		}
		if err := tun.Configure(Change{Peers: []PeerChange{{PublicKey: p.PublicKey, Remove: true}}}); err != nil {
			b.Fatal(err)
		}
	}
}

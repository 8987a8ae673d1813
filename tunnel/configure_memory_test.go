package tunnel

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/tunnel/l2"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
)

// idlePeer bounds the memory of a peer that has no session yet, in bytes, with its place in every
// table of the tunnel. It is 690; with what a first handshake brings, it would be 850.
const idlePeer = 750

// Most of ten thousand peers have no session at any time, and what each takes is paid ten thousand
// times.
func TestConfigure_peerWithoutSessionTakesLittleMemory(t *testing.T) {
	tun := withDevices(t, tundev.TUN)
	before := inUse()
	var c Change
	for n := range manyPeers {
		p := numbered(n, network(n))
		extensions, liveness, priority := peer.ExtensionsAuto, time.Duration(0), 0
		psk, keepalive, port := keys.PresharedKey{}, time.Duration(0), l2.PortConfig{}
		p.Extensions, p.Liveness, p.Priority, p.PresharedKey, p.Keepalive, p.Ethernet = &extensions, &liveness, &priority, &psk, &keepalive, &port
		p.Endpoints = []netip.AddrPort{}
		c.Peers = append(c.Peers, p)
	}
	if err := tun.Configure(c); err != nil {
		t.Fatal(err)
	}
	c = Change{}
	took := (inUse() - before) / manyPeers
	t.Logf("%d bytes for each peer", took)
	if took > idlePeer {
		t.Errorf("a peer takes %d bytes, want at most %d", took, idlePeer)
	}
	var key keys.PublicKey
	binary.BigEndian.PutUint32(key[:], manyPeers)
	if !tun.HasPeer(key) {
		t.Error("the last peer is missing")
	}
}

// inUse returns the bytes of the heap that are in use.
func inUse() int {
	for range 2 { // what pools keep goes with the second collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

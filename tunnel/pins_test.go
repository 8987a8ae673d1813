package tunnel

import (
	"testing"

	"tund/crypto/keys"
	"tund/tunnel/l2"
)

// Two peers swap their pinned MACs in one change, as a reload may do.
func TestConfigure_pinnedMACsMaySwap(t *testing.T) {
	a := newWired(t, EthernetOptions{})
	key := func() keys.PublicKey {
		k, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	b, c := key(), key()
	pin := func(m l2.MAC) *l2.PortConfig { return &l2.PortConfig{Ethernet: true, MACs: []l2.MAC{m}} }
	for _, m := range [][2]l2.MAC{{hostA, hostB}, {hostB, hostA}} {
		err := a.tun.Configure(Change{Peers: []PeerChange{{PublicKey: b, Ethernet: pin(m[0])}, {PublicKey: c, Ethernet: pin(m[1])}}})
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[keys.PublicKey]l2.MAC{b: m[0], c: m[1]} {
			port, ok := a.tun.lan.Switch().Port(l2.PortID(a.tun.peers.Get(key).Port.Load()))
			if !ok || len(port.MACs) != 1 || port.MACs[0] != want {
				t.Errorf("port %+v, %v; want it to have %v", port, ok, want)
			}
		}
	}
}

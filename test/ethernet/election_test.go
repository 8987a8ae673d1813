package ethernet

import (
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// vrrpMAC is the address that the routers of VRRP group 7 share (RFC 9568 §7.3).
const vrrpMAC l2.MAC = 0x00005e000107

// advertisement is what a VRRP router that believes to be the master sends every second.
func advertisement(t testing.TB, from, text string) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 255, Protocol: layers.IPProtocolVRRP, SrcIP: net.ParseIP(from), DstIP: net.IPv4(224, 0, 0, 18)}
	return build(t, ethernetLayer(0x01005e000012, vrrpMAC, layers.EthernetTypeIPv4), ip, gopacket.Payload(text))
}

// Two routers that share an address, one at each site, both believe to be the master: that is how
// they are when the tunnel comes back. Each has to hear the other, or both stay masters for ever.
// When one of them has stepped down, the address is at the other's site.
func TestElection_twoMastersHearEachOther(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	a, b := berlin.host(1).raw(), paris.host(2).raw()
	mine, theirs := advertisement(t, "10.7.0.1", "master in Berlin"), advertisement(t, "10.7.0.2", "master in Paris")
	start(t, berlin, paris)
	a.send(mine)
	testnet.Await(t, "the address in Berlin", 5*time.Second, func() bool { return paris.where(vrrpMAC, 0) == "berlin" })
	b.send(theirs)
	testnet.Await(t, "the address in Paris as well", 5*time.Second, func() bool { return paris.where(vrrpMAC, 0) == "tap0" })
	for range 3 {
		a.drain()
		b.drain()
		a.send(mine)
		b.send(theirs)
		a.expect("the advertisement from Paris", 2*time.Second, holds("master in Paris"))
		b.expect("the advertisement from Berlin", 2*time.Second, holds("master in Berlin"))
	}
	// What is not of the election is refused as long as the other is alive.
	a.send(mine)
	b.send(plainFrame(l2.Broadcast, vrrpMAC, "from the living"))
	a.never("a frame under the address of a living router", 100*time.Millisecond, holds("from the living"))
	testnet.Await(t, "the address in Paris alone", 10*time.Second, func() bool {
		b.send(theirs)
		pause(100 * time.Millisecond)
		return berlin.where(vrrpMAC, 0) == "paris" && paris.where(vrrpMAC, 0) == "tap0"
	})
	a.send(plainFrame(vrrpMAC, anotherMAC, "to the master"))
	b.expect("a frame for the master", 2*time.Second, holds("to the master"))
}

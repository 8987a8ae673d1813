package ethernet

import (
	"testing"
	"time"

	"tund/internal/testnet"
)

// On an underlay that loses datagrams of more than 1,400 bytes without a word, as tunnels on the
// way with a filter do, frames of full size cross in two parts, and TCP uses segments that fit into
// one datagram.
func TestPathMTU_framesOfFullSizeCrossANarrowPath(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	// The filter would see the datagrams of one send as one packet.
	berlin.tunnel, paris.tunnel = []string{`udp_offload = "off"`}, []string{`udp_offload = "off"`}
	wide := "add table bridge narrow; add chain bridge narrow out { type filter hook forward priority 0; }; " +
		"add rule bridge narrow out meta length > 1400 drop"
	berlin.wan.ns.Run(t, "nft", wide)
	a, b := berlin.host(1), paris.host(2)
	start(t, berlin, paris)
	a.reaches(b.v4, 10*time.Second)
	testnet.Await(t, "both sites have found the path", 10*time.Second, func() bool {
		return berlin.Peer(paris.Name).PathMTU == 1400 && paris.Peer(berlin.Name).PathMTU == 1400
	})
	a.pings(b.v4, 3, "-s", "1472", "-M", "do")
	b.pings(a.v6(), 3, "-s", "1452", "-M", "do")
	transfer(t, a, b, b.v4, 2<<20)
	for _, s := range []*site{berlin, paris} {
		s.Stop()
	}
}

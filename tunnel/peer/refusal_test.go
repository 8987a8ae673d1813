package peer

import (
	"net/netip"
	"testing"

	"tund/crypto/keys"
	"tund/tunnel/udp"
)

// A host that is cut off for a moment does not forget where a peer was heard last.
func TestAfterRefusal_allRefusedLeavesThePeerWhereItWas(t *testing.T) {
	t.Parallel()
	configured := []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.1:51820"), netip.MustParseAddrPort("[2001:db8::1]:51820"),
	}
	for _, first := range append(configured, netip.MustParseAddrPort("192.0.2.101:51901")) {
		p := New(keys.PublicKey{1})
		p.SetCandidates(configured, 1)
		p.SetEndpoint(udp.Endpoint{Addr: first})
		for round := range 3 {
			seen := map[netip.AddrPort]bool{first: true}
			tried := 1
			for ; p.AfterRefusal(first, tried); tried++ {
				seen[p.Endpoint().Addr] = true
			}
			if got := p.Endpoint().Addr; got != first {
				t.Errorf("from %v, round %d: the peer is at %v after all were refused", first, round, got)
			}
			if !seen[configured[0]] || !seen[configured[1]] || tried > len(configured)+2 {
				t.Errorf("from %v, round %d: %d tries, of %v", first, round, tried, seen)
			}
		}
	}
}

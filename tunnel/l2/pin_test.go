package l2

import (
	"net"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/drop"
)

// TestPin_neighbourDiscoveryNamesNobodyElse: a peer with pinned MACs claims in the options of its
// messages that another MAC has the address.
func TestPin_neighbourDiscoveryNamesNobodyElse(t *testing.T) {
	t.Parallel()
	own, foreign, dst := hostMAC(1), hostMAC(77), MAC(0x3333_00000001)
	option := func(kind byte, m MAC) []byte { return append([]byte{kind, 1}, hw(m)...) }
	body := func(fixed int, options ...[]byte) []byte {
		return slices.Concat(append([][]byte{make([]byte, fixed)}, options...)...)
	}
	advert := func(options ...[]byte) []byte {
		b := body(20, options...)
		copy(b[4:], net.ParseIP("fe80::1"))
		return b
	}
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6}
	message := func(typ uint8, body []byte) []byte { return icmp6(t, dst, own, "fe80::1", "ff02::1", typ, body) }
	// behind puts an ICMPv6 message behind an extension header.
	behind := func(kind layers.IPProtocol, header []byte, frame []byte) []byte {
		return serialize(t, ethLayer(dst, own, layers.EthernetTypeIPv6), ip6("fe80::1", "ff02::1", kind),
			gopacket.Payload(append(header, frame[headerLen+ipv6Header:]...)))
	}
	lie := message(icmp6NeighborAdvert, advert(option(2, foreign)))
	for _, c := range []struct {
		name  string
		frame []byte
		want  drop.Reason
	}{
		{"own advertisement", message(icmp6NeighborAdvert, advert(option(2, own))), drop.None},
		{"no option", message(icmp6NeighborAdvert, advert()), drop.None},
		{"own solicitation", message(icmp6NeighborSolicit, advert(option(1, own), nonce)), drop.None},
		{"advertisement", lie, drop.SourceForeign},
		{"second option", message(icmp6NeighborAdvert, advert(option(2, own), option(2, foreign))), drop.SourceForeign},
		{"behind another option", message(icmp6NeighborAdvert, advert(nonce, option(2, foreign))), drop.SourceForeign},
		{"solicitation", message(icmp6NeighborSolicit, advert(option(1, foreign))), drop.SourceForeign},
		{"router solicitation", message(icmp6RouterSolicit, body(4, option(1, foreign))), drop.SourceForeign},
		{"router advertisement", message(icmp6RouterAdvert, body(12, option(1, foreign))), drop.SourceForeign},
		{"behind destination options", behind(layers.IPProtocolIPv6Destination, []byte{58, 0, 1, 4, 0, 0, 0, 0}, lie), drop.SourceForeign},
		{"in a fragment", behind(layers.IPProtocolIPv6Fragment, []byte{58, 0, 0, 1, 0, 0, 0, 9}, lie), drop.SourceForeign},
		{"ping", message(128, body(4, option(2, foreign))), drop.None},
	} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{Name: "pinned", MACs: []MAC{own}, TrustRA: true})
		if v, r := fromPeer(s, start, 1, c.frame); r != c.want || v.ToDevice != (c.want == drop.None) {
			t.Errorf("%s: %v, want %v", c.name, r, c.want)
		}
	}
}

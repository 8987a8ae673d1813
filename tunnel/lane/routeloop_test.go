package lane

import (
	"net/netip"
	"testing"

	"tund/tunnel/tundev/tundevtest"
)

func TestOwnDatagram_readsNoFurtherThanThePacketGoes(t *testing.T) {
	t.Parallel()
	src, dst := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	ip := tundevtest.Packet(src, dst, 8+4)
	ip[9] = 17
	copy(ip[20:], []byte{51820 >> 8, 51820 & 255, 0, 7, 0, 12, 0, 0, 1, 0, 0, 0})
	if from, to, ok := ownDatagram(51820, ip); !ok || from != src || to != netip.AddrPortFrom(dst, 7) {
		t.Errorf("%v, %v, %t", from, to, ok)
	}
	if _, _, ok := ownDatagram(51821, ip); ok {
		t.Error("a datagram from another port counts as ours")
	}
	for n := range len(ip) {
		if _, _, ok := ownDatagram(51820, ip[:n]); ok {
			t.Errorf("%d of %d bytes are enough", n, len(ip))
		}
	}
}

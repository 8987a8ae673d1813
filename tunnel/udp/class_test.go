package udp

import (
	"bytes"
	"testing"

	"tund/internal/testnet"
)

// TestSocket_trafficClass sends runs and single datagrams over both families, and looks at what the
// kernel of the other side says of them.
func TestSocket_trafficClass(t *testing.T) {
	t.Parallel()
	here, there := testnet.New(t), testnet.New(t)
	testnet.Veth(t, here, there, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	for _, v4only := range []bool{false, true} {
		a, b := openIn(t, here, Options{IPv4Only: v4only}), openIn(t, there, Options{})
		for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
			if v4only && to != "192.0.2.2" {
				continue
			}
			for _, class := range []uint8{0, 46 << 2, 46<<2 | 2, 3, 255} {
				for _, size := range []int{100, 5000} {
					runs := []Run{{Buf: bytes.Repeat([]byte{1}, size), Segment: 1000, To: loopback(b, to), Class: class}}
					a.NewSender().Send(runs)
					if runs[0].Err != nil {
						t.Fatal(runs[0].Err)
					}
					got := receiveOne(t, b)
					c := parseControl(b.rx.controls[0][:b.rx.hdrs[0].hdr.Controllen])
					if c.class != class || got.CE != (class&3 == 3) || got.N != size {
						t.Errorf("IPv4Only %t, to %s, %d bytes of class %#02x: got %d of class %#02x, CE %t", v4only, to, size, class, got.N, c.class, got.CE)
					}
				}
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

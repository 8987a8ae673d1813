package udp

import (
	"fmt"
	"net"
	"testing"
)

// Each datagram reaches the socket that its fifth byte names, over both families.
func TestSocket_steersByTheFifthByte(t *testing.T) {
	t.Parallel()
	const lanes = 3
	var sockets []*Socket
	o := Options{ReusePort: true}
	for range lanes {
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		o.Port = s.Port()
		sockets = append(sockets, s)
	}
	if err := sockets[0].Steer(lanes); err != nil {
		t.Fatal(err)
	}
	want := make([]int, lanes)
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("udp", net.JoinHostPort(host, fmt.Sprint(o.Port)))
		if err != nil {
			t.Logf("%s: %v", host, err) // no IPv6
			continue
		}
		defer c.Close()
		for b := range 256 {
			if _, err := c.Write([]byte{4, 0, 0, 0, byte(b), 9, 9, 9, 1}); err != nil {
				t.Fatal(err)
			}
			want[b%lanes]++
		}
		if _, err := c.Write([]byte{4, 0, 0, 0}); err != nil { // too short to name one
			t.Fatal(err)
		}
		want[0]++
	}
	trains := make([]Train, 8)
	for i := range trains {
		trains[i].Buf = make([]byte, 65536)
	}
	for i, s := range sockets {
		got := 0
		for {
			n, err := s.Receive(trains, false)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			for _, tr := range trains[:n] {
				size := max(tr.Segment, 1)
				if tr.Segment <= 0 || tr.Segment > tr.N {
					size = tr.N
				}
				for off := 0; off < tr.N; off += size {
					got++
					if d := tr.Buf[off:min(off+size, tr.N)]; len(d) > 4 && int(d[4])%lanes != i {
						t.Errorf("socket %d got a datagram with %d", i, d[4])
					}
				}
			}
		}
		if got != want[i] {
			t.Errorf("socket %d got %d datagrams, want %d", i, got, want[i])
		}
	}
}

package udp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func mustOpen(t testing.TB, o Options) *Socket {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func trains(n int) []Train {
	ts := make([]Train, n)
	for i := range ts {
		ts[i].Buf = make([]byte, 65535)
	}
	return ts
}

func loopback(s *Socket, addr string) Endpoint {
	return Endpoint{Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), s.Port())}
}

// receiveAll receives until want bytes have come.
func receiveAll(t testing.TB, s *Socket, want int) (got []byte, from Endpoint, count int) {
	t.Helper()
	ts := trains(8)
	for len(got) < want {
		n, err := s.Receive(ts, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range ts[:n] {
			got = append(got, tr.Buf[:tr.N]...)
			from = tr.From
			count++
		}
	}
	return got, from, count
}

func TestSocket_runArrivesAsSent(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			a, b := mustOpen(t, Options{}), mustOpen(t, Options{})
			payload := make([]byte, 44*1452+100)
			for i := range payload {
				payload[i] = byte(i * 7)
			}
			runs := []Run{{Buf: payload, Segment: 1452, To: loopback(b, addr)}}
			if a.NewSender().Send(runs); runs[0].Err != nil {
				t.Fatalf("send: %v", runs[0].Err)
			}
			if runs[0].Sent != 45 {
				t.Errorf("sent %d datagrams, want 45", runs[0].Sent)
			}
			got, from, count := receiveAll(t, b, len(payload))
			if !bytes.Equal(got, payload) {
				t.Error("payload differs")
			}
			t.Logf("%d trains from %+v", count, from)
			want := Endpoint{Addr: loopback(a, addr).Addr, Source: netip.MustParseAddr(addr), Ifindex: 1}
			if from != want {
				t.Errorf("from %+v, want %+v", from, want)
			}
		})
	}
}

func TestSocket_closeEndsAWaitingReceive(t *testing.T) {
	for range 50 {
		s := mustOpen(t, Options{})
		result := make(chan error)
		go func() {
			_, err := s.Receive(trains(1), true)
			result <- err
		}()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-result; !errors.Is(err, net.ErrClosed) {
			t.Fatalf("got %v, want net.ErrClosed", err)
		}
	}
}

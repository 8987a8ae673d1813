package udptest

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tund/tunnel/udp"
)

var (
	addrA = netip.MustParseAddrPort("192.0.2.1:51820")
	addrB = netip.MustParseAddrPort("192.0.2.2:51820")
	addrC = netip.MustParseAddrPort("192.0.2.3:51820")
)

func open(t *testing.T, n *Network, addr netip.AddrPort) *Conn {
	t.Helper()
	c, err := n.Open(addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func trains(n int) []udp.Train {
	ts := make([]udp.Train, n)
	for i := range ts {
		ts[i].Buf = make([]byte, 65535)
	}
	return ts
}

func send(t *testing.T, from *Conn, to netip.AddrPort, size, segment int) udp.Run {
	t.Helper()
	runs := []udp.Run{{Buf: bytes.Repeat([]byte{'x'}, size), Segment: segment, To: udp.Endpoint{Addr: to}}}
	from.NewSender().Send(runs)
	return runs[0]
}

func TestNetwork_deliversARunAsATrainAfterTheLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.Set(Conditions{Latency: 30 * time.Millisecond})
		a, b := open(t, n, addrA), open(t, n, addrB)
		defer func() { _, _ = a.Close(), b.Close() }()
		if r := send(t, a, addrB, 2500, 1000); r.Err != nil || r.Sent != 3 {
			t.Fatalf("sent %d, %v; want 3", r.Sent, r.Err)
		}
		start := time.Now()
		ts := trains(4)
		if got, err := b.Receive(ts, false); got != 0 || err != nil {
			t.Fatalf("at once: %d, %v; want none", got, err)
		}
		got, err := b.Receive(ts, true)
		if got != 1 || err != nil || ts[0].N != 2500 || ts[0].Segment != 1000 {
			t.Fatalf("got %d trains, %v: %d by %d", got, err, ts[0].N, ts[0].Segment)
		}
		if want := (udp.Endpoint{Addr: addrA, Source: addrB.Addr(), Ifindex: 1}); ts[0].From != want {
			t.Errorf("from %v, want %v", ts[0].From, want)
		}
		if took := time.Since(start); took != 30*time.Millisecond {
			t.Errorf("took %v, want 30ms", took)
		}
	})
}

func TestNetwork_conditionsHoldOnAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seed = 7
		t.Logf("seed %d", seed)
		n := New(seed)
		n.Set(Conditions{Loss: 0.2, Duplicate: 0.1, Reorder: 0.1})
		a, b := open(t, n, addrA), open(t, n, addrB)
		b.NoTrains(true)
		seen := 0
		n.Watch(func(Datagram) { seen++ })
		for i := range 1000 {
			runs := []udp.Run{{Buf: []byte{byte(i >> 8), byte(i)}, To: udp.Endpoint{Addr: addrB}}}
			a.NewSender().Send(runs)
		}
		<-time.After(time.Second) // by the clock of the bubble
		ts := trains(2000)
		got, err := b.Receive(ts, false)
		if err != nil || got < 820 || got > 940 {
			t.Errorf("%d arrived, %v; want about 880", got, err)
		}
		back, last := 0, -1
		for _, tr := range ts[:got] {
			number := int(tr.Buf[0])<<8 | int(tr.Buf[1])
			if number < last {
				back++
			}
			last = number
		}
		if back == 0 {
			t.Error("none arrived out of order")
		}
		if seen != 1000 {
			t.Errorf("the eavesdropper saw %d, want 1000", seen)
		}
		_, _ = a.Close(), b.Close()
	})
}

func TestNetwork_filterAndPathMTU(t *testing.T) {
	n := New(1)
	a, b := open(t, n, addrA), open(t, n, addrB)
	n.Set(Conditions{PathMTU: 1000})
	n.Filter(func(d Datagram) error {
		if len(d.Payload) == 7 {
			return syscall.EPERM
		}
		return nil
	})
	if r := send(t, a, addrB, 973, 0); r.Err != nil || r.Sent != 1 {
		t.Errorf("larger than the path takes: %d, %v; want sent and lost", r.Sent, r.Err)
	}
	if r := send(t, a, addrB, 7, 0); r.Err != syscall.EPERM || r.Sent != 0 {
		t.Errorf("filtered: %d, %v; want EPERM", r.Sent, r.Err)
	}
	send(t, a, addrB, 972, 0)
	ts := trains(3)
	if got, _ := b.Receive(ts, true); got != 1 || ts[0].N != 972 {
		t.Errorf("got %d, first of %d bytes; want the one of 972", got, ts[0].N)
	}
}

func TestConn_moves(t *testing.T) {
	n := New(1)
	a, b := open(t, n, addrA), open(t, n, addrB)
	b.Move(addrC)
	send(t, a, addrB, 10, 0)
	send(t, a, addrC, 20, 0)
	ts := trains(3)
	if got, _ := b.Receive(ts, false); got != 1 || ts[0].N != 20 {
		t.Errorf("got %d, first of %d bytes; want the one to the new address", got, ts[0].N)
	}
	runs := []udp.Run{{Buf: []byte("hi"), To: udp.Endpoint{Addr: addrA, Source: addrB.Addr()}}}
	b.NewSender().Send(runs)
	if !runs[0].SourceGone || runs[0].Err != nil || runs[0].Sent != 1 {
		t.Errorf("from an address that has gone: %+v; want sent without it", runs[0])
	}
}

func TestConn_closeEndsAWaitingReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, New(1), addrA)
		done := make(chan error, 1)
		go func() {
			_, err := c.Receive(trains(1), true)
			done <- err
		}()
		synctest.Wait()
		c.FailReceive(syscall.ENOMEM)
		if err := <-done; err != syscall.ENOMEM {
			t.Errorf("got %v, want ENOMEM", err)
		}
		go func() {
			_, err := c.Receive(trains(1), true)
			done <- err
		}()
		synctest.Wait()
		_ = c.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want net.ErrClosed", err)
		}
	})
}

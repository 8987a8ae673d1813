package udp

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// handedOver opens a socket, ends it as for a handover while a goroutine receives, and returns a
// duplicate of its descriptor.
func handedOver(t *testing.T, o Options) (fd int, port uint16) {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if fd, err = s.Dup(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Receive([]Train{{Buf: make([]byte, 2000)}}, true)
		ended <- err
	}()
	runtime.Gosched()
	for {
		s.StopReceiving()
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) {
				t.Fatalf("the receiver ends with %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return fd, s.Port()
		case <-time.After(time.Millisecond):
		}
	}
}

func TestSocket_whatArrivesBetweenTwoProcessesWaits(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {IPv4Only: true}, {ReusePort: true, NoGRO: true}} {
		fd, port := handedOver(t, o)
		from, err := net.Dial("udp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if _, err := from.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		o.Port = port
		s, err := FromFD(fd, o)
		if err != nil {
			t.Fatal(err)
		}
		s.OnICMP(func(ICMPReport) {})
		got := 0
		trains := []Train{{Buf: make([]byte, 2000)}}
		for got < 3 {
			n, err := s.Receive(trains, true)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				got += trains[0].N / trains[0].Segment
			}
		}
		// It answers, and ends as any other.
		run := []Run{{Buf: []byte("answer"), To: trains[0].From}}
		s.NewSender().Send(run)
		reply := make([]byte, 100)
		_ = from.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := from.Read(reply); err != nil || string(reply[:n]) != "answer" {
			t.Errorf("%+v: reply %q, %v, sent with %v", o, reply[:n], err, run[0].Err)
		}
		_ = from.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Receive(trains, true); !errors.Is(err, net.ErrClosed) {
			t.Errorf("receive after Close: %v", err)
		}
	}
}

func TestFromFD_refusesWhatIsNotTheSame(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ opened, wanted Options }{
		"another port":  {Options{}, Options{Port: 1}},
		"not shared":    {Options{}, Options{ReusePort: true}},
		"shared":        {Options{ReusePort: true}, Options{}},
		"both families": {Options{}, Options{IPv4Only: true}},
	} {
		fd, _ := handedOver(t, c.opened)
		if s, err := FromFD(fd, c.wanted); err == nil {
			t.Errorf("%s: taken over", name)
			_ = s.Close()
		} else if !strings.HasPrefix(err.Error(), "take over udp socket: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromFD(tcp, Options{}); err == nil {
		t.Error("a TCP socket is taken over")
	}
}

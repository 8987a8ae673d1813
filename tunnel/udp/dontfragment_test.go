package udp

import (
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A run with DontFragment needs an option of the whole socket. What other goroutines send meanwhile
// never leaves with it.
func TestSend_dontFragmentIsNobodyElses(t *testing.T) {
	t.Parallel()
	k := &scripted{}
	s, probes := k.socket(t, gsoQuirks{segments: 64})
	option := func() int {
		v, err := unix.GetsockoptInt(s.ref.FD(), unix.SOL_IP, unix.IP_MTU_DISCOVER)
		if err != nil {
			t.Error(err)
		}
		return v
	}
	// Each call to the kernel reads the option, in place of the packet.
	var without, with int
	probes.sendmmsg = func(_ int, hdrs []mmsghdr) (int, syscall.Errno) {
		for range 20 {
			runtime.Gosched() // so that others send now if they can
		}
		if option() != unix.IP_PMTUDISC_PROBE {
			without++
		}
		return len(hdrs), 0
	}
	data := newSender(s)
	data.sendmmsg = func(_ int, hdrs []mmsghdr) (int, syscall.Errno) {
		if option() == unix.IP_PMTUDISC_PROBE {
			with++
		}
		return len(hdrs), 0
	}
	to := Endpoint{Addr: netip.MustParseAddrPort("192.0.2.1:1")}
	var both sync.WaitGroup
	const rounds = 2000
	for _, x := range []*sender{probes, data} {
		both.Go(func() {
			for range rounds {
				runs := []Run{{Buf: make([]byte, 100), Segment: 100, To: to, DontFragment: x == probes}}
				if x.Send(runs); runs[0].Err != nil || runs[0].Sent != 1 {
					t.Errorf("%d sent: %v", runs[0].Sent, runs[0].Err)
					return
				}
				runtime.Gosched()
			}
		})
	}
	both.Wait()
	if with+without != 0 {
		t.Errorf("of %d datagrams each, %d left with DF that had not asked for it, and %d without that had", rounds, with, without)
	}
}

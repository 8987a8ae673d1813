package l2

import (
	"sync"
	"testing"
	"time"

	"tund/internal/drop"
)

// TestSwitch_manyLanesAtOnce calls all methods concurrently, for the race detector. Throughout, a
// known unicast frame between two hosts that never move must be sent to the right port.
func TestSwitch_manyLanesAtOnce(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{NeighborSuppression: true, Hub: true, MaxEntries: 512})
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, s, id, PortConfig{})
	}
	local, remote := hostMAC(1), hostMAC(2)
	fromDevice(s, start, gratuitous(t, local, "10.0.0.1"))
	fromPeer(s, start, 1, gratuitous(t, remote, "10.0.0.2"))
	// Established, so the flood below must not evict it.
	fromPeer(s, at(2*time.Second), 1, eth(local, remote, 0x1234))
	from := at(2 * time.Second)
	frames := [][]byte{
		gratuitous(t, hostMAC(3), "10.0.0.3"), igmp2(t, hostMAC(4), 0x16, group1), eth(Broadcast, hostMAC(5), 0x1234),
		arp(t, 1, Broadcast, hostMAC(6), "10.0.0.6", 0, "10.0.0.2"), eth(hostMAC(5), hostMAC(3), 0x1234), eth(macBPDU, hostMAC(7), 46),
	}
	const rounds = 1500
	var wg sync.WaitGroup
	wg.Go(func() { // a lane's device loop
		var v Verdict
		known := eth(remote, local, 0x1234)
		for i := range rounds {
			now := from.Add(time.Duration(i) * time.Millisecond)
			if r := s.FromDevice(now, Superpacket{Frame: known}, &v); r != drop.None || len(v.Out) != 1 || v.Out[0].Port != 1 {
				t.Errorf("known unicast: %v %v", r, v.Out)
				return
			}
			s.FromDevice(now, Superpacket{Frame: frames[i%len(frames)]}, &v)
		}
	})
	for id := PortID(1); id <= 3; id++ { // a socket loop
		wg.Go(func() {
			var v Verdict
			spoof := eth(Broadcast, 0, 0x1234)
			for i := range rounds {
				now := from.Add(time.Duration(i) * time.Millisecond)
				hostMAC(1000*int(id) + i).Put(spoof[6:])
				s.FromPeer(now, id, 0, Superpacket{Frame: spoof}, &v)
				s.FromPeer(now, id, 0, Superpacket{Frame: frames[(i+int(id))%len(frames)]}, &v)
			}
		})
	}
	wg.Go(func() { // the slow plane
		hello := (&Hello{Version: 1, Ethernet: true, Answer: true, MTU: 1500, Node: testNode(2)}).Append(nil)
		for i := range rounds / 10 {
			now := from.Add(time.Duration(i) * 10 * time.Millisecond)
			s.Tick(now)
			s.SetPortUp(3, i%2 == 0, now)
			s.Control(now, 2, hello)
			if err := s.SetPort(3, PortConfig{Ethernet: true, MaxMACs: i % 7}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() { // tunctl
		port := PortID(2)
		for range rounds / 50 {
			s.Entries(start)
			s.Ports(start)
			s.Flush(Filter{Port: &port})
			if err := s.Pin(start, 0, hostMAC(9), 2); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if err := s.fdb.check(); err != nil {
		t.Error(err)
	}
}

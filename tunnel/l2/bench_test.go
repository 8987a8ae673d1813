package l2

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// paths are the kinds of decision made per superpacket.
func paths(t testing.TB) map[string]func(v *Verdict, now boottime.Time) drop.Reason {
	s := newSwitch(t, Config{NeighborSuppression: true, BroadcastLimit: -1, MulticastLimit: -1, UnknownLimit: -1})
	for id := PortID(1); id <= 4; id++ {
		addPeer(t, s, id, PortConfig{})
	}
	local, remote := hostMAC(1), hostMAC(2)
	fromDevice(s, start, gratuitous(t, local, "10.0.0.1"))
	fromPeer(s, start, 1, gratuitous(t, remote, "10.0.0.2"))
	fromPeer(s, start, 2, igmp(t, hostMAC(3), "0.0.0.0", "224.0.0.1", []byte{0x11, 100, 0, 0, 0, 0, 0, 0}))
	fromPeer(s, start, 1, igmp2(t, remote, 0x16, group1))
	device := func(frame []byte) func(*Verdict, boottime.Time) drop.Reason {
		return func(v *Verdict, now boottime.Time) drop.Reason {
			return s.FromDevice(now, Superpacket{Frame: frame, Segments: 1}, v)
		}
	}
	peer := func(frame []byte) func(*Verdict, boottime.Time) drop.Reason {
		return func(v *Verdict, now boottime.Time) drop.Reason {
			return s.FromPeer(now, 1, 0, Superpacket{Frame: frame, Segments: 1}, v)
		}
	}
	return map[string]func(*Verdict, boottime.Time) drop.Reason{
		"device/unicast IPv4": device(udp4(t, remote, local, "10.0.0.1", "10.0.0.2", 1, 2, make([]byte, 100))),
		"device/unicast IPv6": device(udp6(t, remote, local, "fd00::1", "fd00::2", 1, 2, make([]byte, 100))),
		"device/broadcast":    device(eth(Broadcast, local, 0x1234)),
		"device/multicast":    device(stream(group1MAC)),
		"device/unknown":      device(eth(hostMAC(77), local, 0x1234)),
		"device/ARP answered": device(arp(t, 1, Broadcast, local, "10.0.0.1", 0, "10.0.0.2")),
		"device/IGMP report":  device(igmp3(t, local, 0, 4, group1)),
		"peer/unicast IPv4":   peer(udp4(t, local, remote, "10.0.0.2", "10.0.0.1", 1, 2, make([]byte, 100))),
		"peer/unicast IPv6":   peer(udp6(t, local, remote, "fd00::2", "fd00::1", 1, 2, make([]byte, 100))),
		"peer/broadcast":      peer(eth(Broadcast, remote, 0x1234)),
		"peer/ARP":            peer(gratuitous(t, remote, "10.0.0.2")),
		"peer/spoofed":        peer(eth(Broadcast, local, 0x1234)),
		"peer/VLAN refused":   peer(eth(local, remote, 0x1234, 5)),
		"peer/probe-like":     peer(eth(Broadcast, remote, typeProbe)),
	}
}

func TestSwitch_decisionsDoNotAllocate(t *testing.T) {
	for name, decide := range paths(t) {
		v := &Verdict{Out: make([]Out, 0, 8)}
		now := start
		if n := testing.AllocsPerRun(200, func() {
			now = now.Add(10 * time.Millisecond)
			decide(v, now)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkSwitch(b *testing.B) {
	for name, decide := range paths(b) {
		b.Run(name, func(b *testing.B) {
			v := &Verdict{Out: make([]Out, 0, 8)}
			now := start
			b.ReportAllocs()
			for b.Loop() {
				now += 100
				decide(v, now)
			}
		})
	}
}

// BenchmarkFind compares the table with alternatives: 1000 hosts, one or two readers.
func BenchmarkFind(b *testing.B) {
	const hosts = 1000
	f := newTestFDB(DefaultMaxEntries, hosts, 1)
	plain := make(map[uint64]entryValue)
	var shards [16]struct {
		sync.RWMutex
		m map[uint64]entryValue
		_ [64]byte
	}
	var whole sync.Map
	for i := range shards {
		shards[i].m = map[uint64]entryValue{}
	}
	for i := range hosts {
		key := entryKey(0, hostMAC(i))
		f.learn(key, 1, start)
		plain[key] = 1
		shards[i%16].m[key] = 1
		whole.Store(key, entryValue(1))
	}
	for _, c := range []struct {
		name string
		find func(i int) bool
	}{
		{"table", func(i int) bool { _, _, ok := f.find(entryKey(0, hostMAC(i))); return ok }},
		{"sharded RWMutex and map", func(i int) bool {
			s := &shards[i%16]
			s.RLock()
			_, ok := s.m[entryKey(0, hostMAC(i))]
			s.RUnlock()
			return ok
		}},
		{"sync.Map", func(i int) bool { _, ok := whole.Load(entryKey(0, hostMAC(i))); return ok }},
		{"map without lock", func(i int) bool { _, ok := plain[entryKey(0, hostMAC(i))]; return ok }},
	} {
		for _, readers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/%d", c.name, readers), func(b *testing.B) {
				var miss atomic.Int64
				var wg sync.WaitGroup
				for range readers {
					wg.Go(func() {
						for i := range b.N {
							if !c.find(i & 7) { // few hosts are active at a time
								miss.Add(1)
							}
						}
					})
				}
				wg.Wait()
				if miss.Load() != 0 {
					b.Fatal("not found")
				}
			})
		}
	}
}

func BenchmarkLearnFlood(b *testing.B) {
	f := newTestFDB(DefaultMaxEntries, DefaultMaxPerPort, 1)
	for i := 0; b.Loop(); i++ {
		f.learn(entryKey(0, hostMAC(i)), 1, start.Add(time.Duration(i)*time.Microsecond))
	}
}

func BenchmarkTick(b *testing.B) {
	s := newSwitch(b, Config{})
	addPeer(b, s, 1, PortConfig{})
	now := start
	for b.Loop() {
		now = now.Add(TickInterval)
		s.Tick(now)
	}
}

func BenchmarkReassembler(b *testing.B) {
	r := NewReassembler(1522, nil)
	first, second := cutFrame(b, make([]byte, 1514), 1, 1420)
	b.SetBytes(1514)
	for b.Loop() {
		for _, p := range [2][]byte{first, second} {
			h, body, _ := ParseFrame(p)
			r.Add(start, 1, &h, body)
		}
	}
}

func BenchmarkClampMSS(b *testing.B) {
	for name, frame := range map[string][]byte{
		"data": tcpFrame(b, false, false, false, nil, 0),
		"SYN":  tcpFrame(b, false, true, false, []byte{2, 4, 1, 0}, 0),
		"IPv6": tcpFrame(b, true, false, false, nil, 0),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				ClampMSS(frame, 1300, 1280, false)
			}
		})
	}
}

// BenchmarkHello measures the cost of a peer that reports a different MTU in each hello, which it
// may do a hundred times a second.
func BenchmarkHello(b *testing.B) {
	for _, ports := range []int{10, 5000} {
		b.Run(fmt.Sprint(ports, " ports"), func(b *testing.B) {
			s := newSwitch(b, Config{Hub: true})
			set := make(map[PortID]PortConfig)
			for id := PortID(1); id <= PortID(ports); id++ {
				set[id] = PortConfig{Ethernet: true}
			}
			if err := s.SetPorts(set, nil); err != nil {
				b.Fatal(err)
			}
			now := start
			hello := func(id PortID, mtu int) {
				now = now.Add(20 * time.Millisecond)
				h := Hello{Version: 1, Ethernet: true, MTU: mtu, Node: uint64(id), Clock: second(now)}
				s.Control(now, id, h.Append(nil))
				s.queue = Actions{}
			}
			for id := range set {
				hello(id, 1500)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				hello(1, 1500+i%2)
			}
		})
	}
}

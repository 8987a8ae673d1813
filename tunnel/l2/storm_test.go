package l2

import (
	"sync"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/limit"
)

func TestMeter_letsTheRatePassAndNotMore(t *testing.T) {
	t.Parallel()
	r := newRate(0, 1000)
	var m limit.Bucket
	passed := 0
	for i := range 1_000_000 { // 100,000 a second for 10 seconds
		if m.Take(at(time.Duration(i)*10*time.Microsecond), 1, r) {
			passed++
		}
	}
	if passed < 10_000 || passed > 10_000+1001 {
		t.Errorf("%d frames passed in 10 s at 1000/s with a burst of 1000", passed)
	}
	if !m.Take(at(time.Hour), 5000, r) || m.Take(at(time.Hour), 1, r) {
		t.Error("a superpacket larger than the burst must pass an idle meter, once")
	}
	if (&limit.Bucket{}).Take(start, 1<<30, newRate(-1, 5)) != true {
		t.Error("a negative rate is no limit")
	}
}

func TestMeter_isExactUnderConcurrency(t *testing.T) {
	t.Parallel()
	var m limit.Bucket
	var wg sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for range 4 {
		wg.Go(func() {
			n := 0
			for range 4000 {
				if m.Take(start, 1, newRate(0, 1000)) {
					n++
				}
			}
			mu.Lock()
			passed += n
			mu.Unlock()
		})
	}
	wg.Wait()
	if passed != 1000 {
		t.Errorf("%d frames passed at one instant, want the burst of 1000", passed)
	}
}

// TestSwitch_stormCostsTheOtherSiteTheLimit: of 100,000 frames per second, the limit is forwarded,
// after a burst of one second.
func TestSwitch_stormCostsTheOtherSiteTheLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dst    MAC
		reason drop.Reason
		limit  int
	}{{Broadcast, drop.StormBroadcast, 1000}, {0x01005e7f0001, drop.StormMulticast, 4000}, {hostMAC(99), drop.StormUnknown, 1000}} {
		s := newSwitch(t, Config{})
		addPeer(t, s, 1, PortConfig{})
		var v Verdict
		for _, device := range []bool{true, false} {
			out, bySecond := 0, [3]int{}
			frame := eth(c.dst, hostMAC(1+b2i(device)), 0x1234)
			for i := range 300_000 {
				now := at(time.Duration(i) * 10 * time.Microsecond)
				p := Superpacket{Frame: frame}
				var r drop.Reason
				if device {
					r = s.FromDevice(now, p, &v)
				} else {
					r = s.FromPeer(now, 1, 0, p, &v)
				}
				switch r {
				case drop.None:
					out++
					bySecond[i/100_000]++
				case c.reason:
				default:
					t.Fatalf("%v: %v", c.dst, r)
				}
			}
			// A burst of one second, and what one sender may take of the reserve.
			if max := 4*c.limit + 4*c.limit/fairShare; out > max || out < 3*c.limit {
				t.Errorf("%v: %d frames in three seconds, want %d to %d", c.dst, out, 3*c.limit, max)
			}
			if last, max := bySecond[2], c.limit+c.limit/fairShare; last > max || last < c.limit-1 {
				t.Errorf("%v: %d frames in the third second, want %d to %d", c.dst, last, c.limit, max)
			}
		}
		if got := s.Drops(1, c.reason) + s.Drops(LocalPort, c.reason); got < 150_000 {
			t.Errorf("%v: %d drops counted", c.dst, got)
		}
	}
}

func TestSwitch_stormWeighsSegments(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{UnknownLimit: 100})
	addPeer(t, s, 1, PortConfig{})
	var v Verdict
	passed := 0
	for i := range 100 {
		p := Superpacket{Frame: eth(hostMAC(9), hostMAC(1), typeIPv4), Segments: 47}
		if s.FromDevice(boottime.Time(int64(start)+int64(i)*1e7), p, &v) == drop.None {
			passed += 47
		}
	}
	if passed > 100+150+47 {
		t.Errorf("%d frames in a second at 100/s with a burst of 100, and of 150 with the reserve", passed)
	}
}

// storm is a switch; at one of its ports, some hosts cause a storm while others send 40 ARP
// requests per second each.
type storm struct {
	s      *Switch
	port   PortID
	asked  int
	passed int
}

func newStorm(t *testing.T, port PortID) *storm {
	s := newSwitch(t, Config{})
	addPeer(t, s, 1, PortConfig{Name: "p"})
	return &storm{s: s, port: port}
}

func (w *storm) send(now boottime.Time, f []byte) drop.Reason {
	var r drop.Reason
	if w.port == LocalPort {
		_, r = fromDevice(w.s, now, f)
	} else {
		_, r = fromPeer(w.s, now, w.port, f)
	}
	return r
}

// run lets the hosts that cause the storm send rate broadcasts per second in total, for ten
// seconds.
func (w *storm) run(t *testing.T, rate int, sender func(i int) MAC) {
	question := arp(t, 1, Broadcast, hostMAC(9), "10.0.0.9", 0, "10.0.0.1")
	flood := eth(Broadcast, 0, typeIPv4)
	sent := 0
	for us := 0; us < 10_000_000; us += 50 {
		// The other host is established.
		now := at(2*time.Second + time.Duration(us)*time.Microsecond)
		if sent*1_000_000 < us*rate {
			sender(sent).Put(flood[6:])
			w.send(now, flood)
			sent++
		}
		if us%25_000 == 13_000 {
			w.asked++
			if w.send(now, question) == drop.None {
				w.passed++
			}
		}
	}
}

// TestStorm_othersAreHeard: a host that causes a storm uses up the budget of its port, but not the
// share of the other hosts; nor do a few such hosts, nor one that invents a source for each frame.
func TestStorm_othersAreHeard(t *testing.T) {
	t.Parallel()
	for _, port := range []PortID{LocalPort, 1} {
		for _, rate := range []int{1000, 5000, 20_000} {
			for name, sender := range map[string]func(i int) MAC{
				"one host":    func(int) MAC { return hostMAC(66) },
				"eight hosts": func(i int) MAC { return hostMAC(60 + i%8*1000) },
				"invented":    func(i int) MAC { return hostMAC(100_000 + i) },
			} {
				w := newStorm(t, port)
				for d := range 2 {
					w.send(at(time.Duration(d)*time.Second), arp(t, 1, Broadcast, hostMAC(9), "10.0.0.9", 0, "10.0.0.1"))
				}
				w.run(t, rate, sender)
				if w.passed < w.asked*99/100 {
					t.Errorf("port %d, %d broadcasts/s by %s: %d of %d questions of another host pass", port, rate, name, w.passed, w.asked)
				}
			}
		}
	}
}

// TestStorm_aSecondsWorthAtOnce: a router announces all its addresses in one burst.
func TestStorm_aSecondsWorthAtOnce(t *testing.T) {
	t.Parallel()
	for _, port := range []PortID{LocalPort, 1} {
		w := newStorm(t, port)
		for i := range DefaultBroadcastLimit {
			if r := w.send(at(time.Duration(i)*time.Microsecond), gratuitous(t, hostMAC(1), "10.9.0.1")); r != drop.None {
				t.Fatalf("port %d: announcement %d: %v", port, i, r)
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A peer may have storm limits of its own.
func TestStorm_limitsOfOnePeer(t *testing.T) {
	t.Parallel()
	s := newSwitch(t, Config{BroadcastLimit: 1000})
	addPeer(t, s, 1, PortConfig{BroadcastLimit: 100})
	addPeer(t, s, 2, PortConfig{BroadcastLimit: -1})
	addPeer(t, s, 3, PortConfig{})
	for id, want := range map[PortID][2]int{1: {100, 160}, 2: {5000, 5000}, 3: {1000, 1600}} {
		passed := 0
		for range 5000 {
			if _, r := fromPeer(s, at(time.Second), id, eth(Broadcast, hostMAC(int(id)), typeIPv4)); r == drop.None {
				passed++
			}
		}
		if passed < want[0] || passed > want[1] {
			t.Errorf("port %d: %d broadcasts passed at once, want %v", id, passed, want)
		}
	}
}

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
	if passed < 10_000 || passed > 10_000+251 {
		t.Errorf("%d frames passed in 10 s at 1000/s with a burst of 250", passed)
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
			for range 1000 {
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
	if passed != 250 {
		t.Errorf("%d frames passed at one instant, want the burst of 250", passed)
	}
}

// TestSwitch_stormCostsTheOtherSiteTheLimit is the promise of the issue: 100,000 frames/s in, the limit out.
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
			out := 0
			frame := eth(c.dst, hostMAC(1+b2i(device)), 0x1234)
			for i := range 100_000 {
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
				case c.reason:
				default:
					t.Fatalf("%v: %v", c.dst, r)
				}
			}
			if max := c.limit + c.limit/4 + 1; out > max || out < c.limit {
				t.Errorf("%v: %d frames in a second, want %d to %d", c.dst, out, c.limit, max)
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
	if passed > 100+64+47 {
		t.Errorf("%d frames in a second at 100/s", passed)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

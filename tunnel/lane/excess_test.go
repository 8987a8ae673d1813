package lane

import (
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
)

func TestExcessBudget_refillsAtItsRate(t *testing.T) {
	t.Parallel()
	var b excessBudget
	now := boottime.Time(time.Hour)
	const step = 1000
	for taken := 0; taken+step <= excessBurst; taken += step {
		if !b.take(step, now) {
			t.Fatalf("refused after %d bytes of %d", taken, excessBurst)
		}
	}
	if b.take(step, now) {
		t.Error("more than the burst was taken at once")
	}
	got := 0
	for range 10_000 { // 10 s in steps that refill less than one request
		now = now.Add(time.Millisecond)
		for b.take(step, now) {
			got += step
		}
	}
	if want := 10 * excessRate; got < want*98/100 || got > want+step {
		t.Errorf("%d bytes in 10 s, want %d", got, want)
	}
	now = now.Add(time.Hour)
	if b.take(excessBurst+1, now) || !b.take(excessBurst, now) {
		t.Error("an hour of silence does not fill the budget, or fills it further")
	}
}

// Small superpackets of tiny segments pass now and then, and are dropped when there is no end of
// them.
func TestSendLoop_boundsTinySegments(t *testing.T) {
	b := newBench(t, tundev.Features{Checksum: true, TSO: true, USO: true})
	here := b.from.Source
	for range 1000 {
		b.send(tundevtest.UDPSuper(here, b.inner, 100, 1))
	}
	dropped := b.env.Drops.Snapshot()["tiny-segments"]
	if dropped < 950 || dropped > 995 {
		t.Errorf("%d of 1000 superpackets of 100 segments of one byte dropped", dropped)
	}
	for range 1000 {
		b.send(tundevtest.UDPSuper(here, b.inner, 128, 36))
		b.send(tundevtest.TCPSuper(here, b.inner, 500, 88))
	}
	if n := b.env.Drops.Snapshot()["tiny-segments"]; n != dropped {
		t.Errorf("%d honest superpackets dropped", n-dropped)
	}
}

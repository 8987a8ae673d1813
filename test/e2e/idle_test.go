package e2e

import (
	"testing"
	"time"

	"tund/internal/testnet"
)

// Limits of an instance with one peer and nothing to do.
const (
	idleMemory = 30 << 20
	idleShare  = 0.002 // of one processor
)

func TestIdle_takesLittle(t *testing.T) {
	t.Parallel()
	idle(t, 10*time.Second)
}

func TestSoakIdle_takesLittleForMinutes(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	idle(t, 4*time.Minute)
}

// idle measures two instances with a session and a keepalive, but no traffic.
func idle(t *testing.T, window time.Duration) {
	p := newPair(t, false)
	p.a.peers[0].keepalive = 25
	p.start()
	ping(t, p.a.NS, p.endB().v4, 5)
	gateways := []*gateway{p.a, p.b}
	used := make([]time.Duration, len(gateways))
	for i, g := range gateways {
		used[i] = cpuTime(t, g.Process.Pid())
	}
	pause(window)
	for i, g := range gateways {
		share := float64(cpuTime(t, g.Process.Pid())-used[i]) / float64(window)
		memory := resident(t, g.Process.Pid())
		t.Logf("%s: %.3f %% of a processor, %.1f MiB, %d threads", g.Name, 100*share, float64(memory)/(1<<20), threads(t, g.Process.Pid()))
		if testnet.RaceDetector {
			continue // its memory and its time are not ours
		}
		if share > idleShare {
			t.Errorf("%s uses %.3f %% of a processor while idle, want at most %.1f %%", g.Name, 100*share, 100*idleShare)
		}
		if memory > idleMemory {
			t.Errorf("%s has %d bytes resident, want at most %d", g.Name, memory, idleMemory)
		}
	}
	p.a.Stop()
	p.b.Stop()
}

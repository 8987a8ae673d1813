package e2e

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// TestKill_atAnyMomentLeavesNothing kills the process at random moments of a start, a reload, a
// stop and a restart. After the next start and stop, or after --cleanup, nothing of it is left.
func TestKill_atAnyMomentLeavesNothing(t *testing.T) {
	t.Parallel()
	killed(t, 4)
}

func TestSoakKill_atTwoHundredMomentsLeavesNothing(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	killed(t, 200)
}

func killed(t *testing.T, count int) {
	g := fullTunnel(t)
	store := storeFor(t, g)
	before := g.NS.Snapshot()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range count {
		moment := time.Duration(random.Int64N(int64(startMoments)))
		what := []string{"start", "reload", "stop", "restart"}[i%4]
		store.ready()
		if what == "start" {
			g.write()
			g.Launch()
		} else {
			g.start()
		}
		switch what {
		case "reload":
			g.addresses[0] = fmt.Sprintf("10.9.%d.1/24", i%250)
			g.port = listenPort + i%2
			g.write()
			g.Process.Signal(syscall.SIGHUP)
		case "restart":
			g.Process.Signal(syscall.SIGUSR1)
			time.Sleep(time.Millisecond)
			g.Process.Signal(syscall.SIGTERM)
		case "stop":
			g.Process.Signal(syscall.SIGTERM)
		}
		time.Sleep(moment)
		g.Kill()
		then := "--cleanup"
		if (i+i/4)%2 == 0 {
			store.drop()
			store.cleanup("")
		} else {
			then = "a start and a stop"
			store.ready()
			g.start()
			g.Stop()
			store.drop()
		}
		g.leavesNothing(before, fmt.Sprintf("killed %v after the beginning of a %s, then %s (seed %d, round %d)", moment, what, then, seed, i))
		if t.Failed() {
			return
		}
	}
}

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
	// What else an instance sets in the kernel: sysctls, nftables, a bridge and a second device.
	g.tun = []string{"forward = true", "masquerade = true", `dns = ["10.9.0.9"]`,
		"[tap]", fmt.Sprintf("device = %q", "t"+g.Name[1:]), fmt.Sprintf("bridge = %q", "b"+g.Name[1:]), "bridge_vlans = [10]"}
	g.peers[1].more = []string{"priority = 10"}
	g.peers = append(g.peers, peerConfig{name: "standby", key: newGateway(t, g.NS, "").Key.Public(), endpoint: endpoint("192.0.2.7"),
		allowed: g.peers[1].allowed, more: []string{"priority = 5"}})
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

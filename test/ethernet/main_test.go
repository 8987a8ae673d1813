package ethernet

import (
	"os"
	"sync"
	"testing"
	"time"

	"tund/internal/testnet"
)

// parallelTests is how many tests run beside each other. Most of them wait more than they work.
const parallelTests = 6

// bench is what the tests of one run share: the right to use the processor.
var bench struct {
	// quiet is held for reading by every test, and for writing by one that measures and wants the
	// machine to itself.
	quiet sync.RWMutex
}

func TestMain(m *testing.M) {
	if ip := os.Getenv(guestEnv); ip != "" {
		playGuest(ip)
	}
	os.Exit(testnet.RunSuite(m, parallelTests))
}

// beside lets the test run beside others. A test that is beside others must not have parallel tests
// below it: they would wait for a place that is held by tests waiting for it.
func beside(t *testing.T) {
	t.Helper()
	testnet.Require(t)
	t.Parallel()
	bench.quiet.RLock()
	t.Cleanup(bench.quiet.RUnlock)
}

// alone waits until no other test runs, and keeps them waiting until this one ends: for tests that
// measure or flood.
func alone(t *testing.T) {
	t.Helper()
	testnet.Require(t)
	t.Parallel()
	bench.quiet.Lock()
	t.Cleanup(bench.quiet.Unlock)
}

// pause lets time pass: there is nothing to wait for but the clock.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

package ethernet

import (
	"os"
	"testing"
	"time"

	"tund/internal/testnet"
)

// parallelTests is how many tests run beside each other. Most of them wait more than they work.
const parallelTests = 6

func TestMain(m *testing.M) {
	if ip := os.Getenv(guestEnv); ip != "" {
		playGuest(ip)
	}
	os.Exit(testnet.RunSuite(m, parallelTests))
}

// beside lets the test run beside others.
func beside(t *testing.T) {
	t.Helper()
	testnet.Require(t)
	t.Parallel()
}

// alone says that no other test of the package runs beside this one, which measures or floods: it
// is not parallel, so that all of its kind run one after the other before any that is. A lock
// would do the same at any place among the others, and each time first wait for the slowest of
// those that run.
func alone(t *testing.T) {
	t.Helper()
	testnet.Require(t)
}

// pause lets time pass: there is nothing to wait for but the clock.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

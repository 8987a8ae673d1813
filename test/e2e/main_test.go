package e2e

import (
	"os"
	"sync"
	"testing"

	"tund/internal/testnet"
)

// parallelTests is how many tests run beside each other. Most of them wait more than they work.
const parallelTests = 8

// bench is what the tests of one run share: what was built, and the right to use the processor.
var bench struct {
	wireguardGo struct {
		once sync.Once
		path string
		err  error
	}
	// processor is held by tests that saturate it.
	processor sync.Mutex
}

func TestMain(m *testing.M) {
	if path := os.Getenv(cyclesEnv); path != "" {
		os.Exit(cyclesMain(path))
	}
	os.Exit(testnet.RunSuite(m, parallelTests))
}

// saturate waits until no other test saturates the processor, and keeps them waiting until this one
// ends.
func saturate(t testing.TB) {
	bench.processor.Lock()
	t.Cleanup(bench.processor.Unlock)
}

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tund/internal/testnet"
)

// parallelTests is how many tests run beside each other. Most of them wait more than they work.
const parallelTests = "8"

// bench is what the tests of one run share: what was built, and the right to use the processor.
var bench struct {
	dir string // temporary, removed at the end

	tund struct {
		once sync.Once
		path string
		err  error
	}
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
	flag.Parse()
	if !explicit("test.parallel") {
		_ = flag.Set("test.parallel", parallelTests)
	}
	os.Exit(run(m))
}

// explicit reports whether a flag was given on the command line.
func explicit(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "te")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // one test runs the program as nobody
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bench.dir = dir
	return m.Run()
}

// soaking reports whether the long variants were asked for.
func soaking() bool { return os.Getenv("TUND_TEST_SOAK") != "" }

// soak skips a test that takes minutes unless it was asked for.
func soak(t *testing.T) {
	t.Helper()
	testnet.Require(t)
	if !soaking() {
		t.Skip("takes minutes: make soak runs it (TUND_TEST_SOAK=1)")
	}
}

// saturate waits until no other test saturates the processor, and keeps them waiting until this one ends.
func saturate(t testing.TB) {
	bench.processor.Lock()
	t.Cleanup(bench.processor.Unlock)
}

// required reports whether what a test lacks is a failure (testnet.Require decides the same way).
func required() bool {
	for word := range strings.SplitSeq(os.Getenv("TUND_TEST_REQUIRE"), ",") {
		if word == "root" {
			return true
		}
	}
	return false
}

// lacks skips the test for a reason, or fails it where skips do not count.
func lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	if required() {
		t.Fatalf("TUND_TEST_REQUIRE=root, but "+format, args...)
	}
	t.Skipf(format, args...)
}

// tund returns the path of the program under test, built when it is first asked for. Under the race detector so is it.
func tund(t testing.TB) string {
	t.Helper()
	testnet.Require(t)
	b := &bench.tund
	b.once.Do(func() {
		if b.path = os.Getenv("TUND_TEST_BIN"); b.path != "" {
			b.path, b.err = filepath.Abs(b.path)
			return
		}
		b.path = filepath.Join(bench.dir, "tund")
		args := []string{"build", "-o", b.path}
		env := append(os.Environ(), "CGO_ENABLED=0")
		if raceDetector {
			args, env = append(args, "-race"), append(os.Environ(), "CGO_ENABLED=1")
		}
		build := exec.Command("go", append(args, "./cmd/tund")...)
		build.Dir, build.Env = "../..", env
		if out, err := build.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("go build ./cmd/tund: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// scratch makes a short-lived directory with a short name: paths of unix sockets are limited.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(bench.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

package ethernet

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/internal/testnet"
)

// parallelTests is how many tests run beside each other. Most of them wait more than they work.
const parallelTests = "6"

// bench is what the tests of one run share: what was built, and the right to use the processor.
var bench struct {
	dir string // temporary, removed at the end

	once sync.Once // guards the rest until done
	bin  string    // directory of tund and tunctl
	err  error

	// quiet is held for reading by every test, and for writing by one that measures and wants the machine to itself.
	quiet sync.RWMutex
}

func TestMain(m *testing.M) {
	if ip := os.Getenv(guestEnv); ip != "" {
		playGuest(ip)
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
	dir, err := os.MkdirTemp("", "eth")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bench.dir = dir
	return m.Run()
}

// beside lets the test run beside others. A test that is beside others must not have parallel tests below it: they would
// wait for a place that is held by tests waiting for it.
func beside(t *testing.T) {
	t.Helper()
	testnet.Require(t)
	t.Parallel()
	bench.quiet.RLock()
	t.Cleanup(bench.quiet.RUnlock)
}

// alone waits until no other test runs, and keeps them waiting until this one ends: for tests that measure or flood.
func alone(t *testing.T) {
	t.Helper()
	testnet.Require(t)
	t.Parallel()
	bench.quiet.Lock()
	t.Cleanup(bench.quiet.Unlock)
}

// soak skips a test that takes minutes unless it was asked for.
func soak(t *testing.T) {
	t.Helper()
	testnet.Require(t)
	if os.Getenv("TUND_TEST_SOAK") == "" {
		t.Skip("takes minutes: make soak runs it (TUND_TEST_SOAK=1)")
	}
}

// lacks skips the test for a reason, or fails it where skips do not count.
func lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	for word := range strings.SplitSeq(os.Getenv("TUND_TEST_REQUIRE"), ",") {
		if word == "root" {
			t.Fatalf("TUND_TEST_REQUIRE=root, but "+format, args...)
		}
	}
	t.Skipf(format, args...)
}

// programs returns the directory that holds tund and tunctl, built when it is first asked for. Under the race detector
// so are they.
func programs(t testing.TB) string {
	t.Helper()
	b := &bench
	b.once.Do(func() {
		if path := os.Getenv("TUND_TEST_BIN"); path != "" {
			if path, b.err = filepath.Abs(path); b.err == nil {
				b.bin = filepath.Dir(path)
			}
			return
		}
		b.bin = bench.dir
		args, env := []string{"build", "-o", b.bin + "/"}, append(os.Environ(), "CGO_ENABLED=0")
		if raceDetector {
			args, env = append(args, "-race"), append(os.Environ(), "CGO_ENABLED=1")
		}
		build := exec.Command("go", append(args, "./cmd/tund", "./cmd/tunctl")...)
		build.Dir, build.Env = "../..", env
		if out, err := build.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.bin
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

// pause lets time pass: there is nothing to wait for but the clock.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

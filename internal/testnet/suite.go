package testnet

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// suite is what the tests of one run of a package below test/ share.
var suite struct {
	dir string

	once sync.Once // guards the rest until done
	bin  string
	err  error
}

// RunSuite runs the tests of a package that runs the programs themselves, with a temporary
// directory for all of them that is removed afterwards. parallel is how many tests run beside each
// other unless the command line says so; most of them wait more than they work. 0 leaves it at Go's
// default. The result is for os.Exit.
func RunSuite(m *testing.M, parallel int) int {
	flag.Parse()
	if parallel > 0 && !given("test.parallel") {
		_ = flag.Set("test.parallel", strconv.Itoa(parallel))
	}
	dir, err := os.MkdirTemp("", "tt") // short: the paths of unix sockets are limited
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // some programs run as nobody
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	suite.dir = dir
	return m.Run()
}

// given reports whether a flag was given on the command line.
func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// Dir returns the temporary directory of RunSuite, for what all tests share.
func Dir() string { return suite.dir }

// Scratch makes a directory with a short name below Dir, removed when all tests have ended.
func Scratch(t testing.TB) string {
	t.Helper()
	if suite.dir == "" {
		t.Fatal("testnet.Scratch needs testnet.RunSuite")
	}
	dir, err := os.MkdirTemp(suite.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Soaking reports whether the long variants of tests were asked for.
func Soaking() bool { return os.Getenv("TUND_TEST_SOAK") != "" }

// Soak skips a test that takes minutes unless it was asked for. It calls Require first.
func Soak(t testing.TB) {
	t.Helper()
	Require(t)
	if !Soaking() {
		t.Skip("takes minutes: make soak runs it (TUND_TEST_SOAK=1)")
	}
}

// required reports whether TUND_TEST_REQUIRE makes a failure of what a test lacks.
func required() bool {
	return slices.Contains(strings.Split(os.Getenv("TUND_TEST_REQUIRE"), ","), "root")
}

// Lacks skips the test for a reason, or fails it where skips do not count (TUND_TEST_REQUIRE=root).
func Lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	if required() {
		t.Fatalf("TUND_TEST_REQUIRE=root, but "+format, args...)
	}
	t.Skipf(format, args...)
}

// Program returns the path of a program that the test needs; without it the test Lacks something.
func Program(t testing.TB, name string) string {
	t.Helper()
	Require(t)
	path, err := exec.LookPath(name)
	if err != nil {
		Lacks(t, "%v", err)
	}
	return path
}

// Tund returns the path of the daemon under test; tunctl is beside it. They are built when first
// asked for, under the race detector when the tests are, unless TUND_TEST_BIN names a tund. For
// packages two directories below the module's top.
func Tund(t testing.TB) string {
	t.Helper()
	Require(t)
	suite.once.Do(func() { suite.bin, suite.err = build() })
	if suite.err != nil {
		t.Fatal(suite.err)
	}
	return suite.bin
}

// Tunctl returns the path of the tunctl beside Tund.
func Tunctl(t testing.TB) string {
	t.Helper()
	return filepath.Join(filepath.Dir(Tund(t)), "tunctl")
}

func build() (string, error) {
	if path := os.Getenv("TUND_TEST_BIN"); path != "" {
		return filepath.Abs(path)
	}
	if suite.dir == "" {
		return "", errors.New("testnet.Tund needs testnet.RunSuite")
	}
	args, env := []string{"build", "-o", suite.dir + "/"}, append(os.Environ(), "CGO_ENABLED=0")
	if RaceDetector {
		args, env = append(args, "-race"), append(os.Environ(), "CGO_ENABLED=1")
	}
	build := exec.Command("go", append(args, "./cmd/tund", "./cmd/tunctl", "./cmd/tund-agent")...)
	build.Dir, build.Env = "../..", env
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/...: %w\n%s", err, out)
	}
	return filepath.Join(suite.dir, "tund"), nil
}

package compat

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// sockets is where WireGuard's tools look for devices.
const sockets = "/var/run/wireguard"

// bench is what the tests of one run share.
var bench struct {
	dir  string // temporary, removed at the end
	tund struct {
		once sync.Once
		path string
		err  error
	}
}

// privateEnv marks the process that has mounts of its own.
const privateEnv = "TUND_COMPAT_PRIVATE"

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(privateEnv) == "" {
		os.Exit(again())
	}
	os.Exit(run(m))
}

// again runs this test program in a mount namespace of its own.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), privateEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tc")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bench.dir = dir
	if os.Geteuid() == 0 {
		if err := hide(); err != nil {
			fmt.Fprintln(os.Stderr, "mounts of our own:", err)
			return 1
		}
	}
	return m.Run()
}

// hide puts an empty directory over the one that all devices share.
func hide() error {
	if err := os.MkdirAll(sockets, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("tund", sockets, "tmpfs", 0, "mode=0755")
}

// soak skips a test that takes minutes unless it was asked for.
func soak(t *testing.T) {
	t.Helper()
	testnet.Require(t)
	if os.Getenv("TUND_TEST_SOAK") == "" {
		t.Skip("takes minutes: make soak runs it (TUND_TEST_SOAK=1)")
	}
}

// program returns the path of a program, or skips the test; where skips do not count it fails.
func program(t testing.TB, name string) string {
	t.Helper()
	testnet.Require(t)
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if slices.Contains(strings.Split(os.Getenv("TUND_TEST_REQUIRE"), ","), "root") {
		t.Fatalf("TUND_TEST_REQUIRE=root, but %v", err)
	}
	t.Skip(err.Error())
	return ""
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

// scratch makes a directory with a short name.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(bench.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

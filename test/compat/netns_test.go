package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// upstream is the version of wireguard-go whose test is run.
const upstream = "golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446"

// upstreamLimit bounds one run, which sends 16 GB through the tunnel.
const upstreamLimit = 15 * time.Minute

// wireguard-go's own test, as it is. TUND_TEST_NETNS_RUNS says how often in a row; once unless it
// does. It needs the network namespace that the machine began with: it writes to /proc/sys/net/core
// and reads the kernel's log.
func TestSoak_wireguardGosOwnTest(t *testing.T) {
	testnet.Soak(t)
	for _, name := range []string{"ncat", "iperf3", "iptables", "ss", "ping6"} {
		testnet.Program(t, name)
	}
	script := filepath.Join(module(t, upstream), "tests", "netns.sh")
	runs, err := strconv.Atoi(os.Getenv("TUND_TEST_NETNS_RUNS"))
	if err != nil {
		runs = 1
	}
	if _, err := os.Stat("/proc/sys/net/core/message_cost"); err != nil {
		t.Skipf("not in the machine's first network namespace: %v", err)
	}
	for i := range runs {
		began := time.Now()
		cmd := exec.Command("bash", script, testnet.Tund(t))
		log, err := os.Create(filepath.Join(testnet.Dir(), fmt.Sprintf("netns-%d.log", i)))
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Env = append(os.Environ(), "TUND_RUN_DIR="+filepath.Join(testnet.Dir(), "run"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(upstreamLimit, func() { _ = cmd.Process.Kill() })
		err = cmd.Wait()
		timer.Stop()
		_ = log.Close()
		if err != nil {
			t.Fatalf("run %d: %v\n%s", i+1, err, tail(t, log.Name()))
		}
		t.Logf("run %d: %v", i+1, time.Since(began).Round(time.Second))
	}
}

// tail returns the end of a file.
func tail(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(string(text), "\n")
	return strings.Join(all[max(0, len(all)-60):], "\n")
}

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// superpacket is what one read of the device or one write to it carries at most.
const superpacket = 64 << 10

// TestSoakSyscalls_fewPerSuperpacket counts the system calls of both sides of a TCP flow with
// strace(1). Tracing makes each call slower by far, so the ratio is that of a program that is short
// of time.
func TestSoakSyscalls_fewPerSuperpacket(t *testing.T) {
	testnet.Soak(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace(1) is not installed")
	}
	t.Parallel()
	p := newPair(t, false)
	p.start()
	ping(t, p.a.NS, p.endB().v4, 3)
	saturate(t)
	dir := testnet.Scratch(t)
	sides := map[string]*testnet.Process{}
	for _, g := range []*gateway{p.a, p.b} {
		sides[g.Name] = g.NS.Start(t, "strace", "-f", "-c", "-U", "name,calls", "-o", filepath.Join(dir, g.Name), "-p", strconv.Itoa(g.Process.Pid()))
	}
	testnet.Await(t, "strace attaches", startLimit, func() bool {
		return strings.Contains(sides[p.a.Name].Output(), "attached") && strings.Contains(sides[p.b.Name].Output(), "attached")
	})
	const size = 256 << 20
	began := time.Now()
	t.Logf("%v while traced", transfer(t, p.a.NS, p.b.NS, p.endB().v4, size))
	traced := time.Since(began)
	for name, tracer := range sides {
		_ = tracer.Stop(syscall.SIGINT, 10*time.Second)
		calls := countedCalls(t, filepath.Join(dir, name))
		packets, superpackets := float64(size)/1380, float64(size)/superpacket
		// Acknowledgements are in it: they pass the same loops the other way.
		path := float64(calls["read"]+calls["write"]+calls["recvmmsg"]+calls["sendmmsg"]) / superpackets
		t.Logf("%s, per 64 KiB: read %.2f, sendmmsg %.2f, recvmmsg %.2f, write %.2f; futexes per packet: %.4f; all: %v", name,
			float64(calls["read"])/superpackets, float64(calls["sendmmsg"])/superpackets, float64(calls["recvmmsg"])/superpackets,
			float64(calls["write"])/superpackets, float64(calls["futex"])/packets, calls)
		if path > 8 {
			t.Errorf("%s made %.1f system calls per superpacket", name, path)
		}
		// Go's monitor thread makes up to a thousand futex calls a second, however few packets that
		// second had room for: 0.01 a packet in all on an idle machine, 0.05 where ten others want
		// its two cores. A wakeup a packet makes 1; one a superpacket would not show here.
		if float64(calls["futex"]) > packets/50+1500*traced.Seconds() {
			t.Errorf("%s made %d futex calls for %.0f packets", name, calls["futex"], packets)
		}
	}
	p.a.Stop()
	p.b.Stop()
}

// countedCalls reads what strace -c wrote: a count of each system call.
func countedCalls(t *testing.T, path string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) != 2 {
			continue
		}
		if n, err := strconv.Atoi(words[1]); err == nil && words[0] != "total" {
			calls[words[0]] = n
		}
	}
	return calls
}

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// counter counts from several goroutines.
type counter struct{ n atomic.Int64 }

func (c *counter) add(n int64) { c.n.Add(n) }
func (c *counter) get() int64  { return c.n.Load() }

// cpuTime is the processor time that a process has used, to the nanosecond.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	// A process's clock has its number in a clock id (clock_getcpuclockid(3)): the complement, and the kind.
	const processClock = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|processClock), &ts); err != nil {
		t.Fatalf("processor time of %d: %v", pid, err)
	}
	return time.Duration(ts.Nano())
}

// resident is the memory of a process in bytes.
func resident(t testing.TB, pid int) int64 { return 1024 * procStatus(t, pid, "VmRSS:") }

// threads is the number of threads of a process.
func threads(t testing.TB, pid int) int64 { return procStatus(t, pid, "Threads:") }

// procStatus returns a number from /proc/pid/status.
func procStatus(t testing.TB, pid int, key string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == key {
			n, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, key)
	return 0
}

// descriptors is the number of open files of a process.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// goroutines counts those of a stack dump that a Go program prints when it is killed with SIGQUIT, without the
// runtime's own, which it makes as it needs them.
func goroutines(dump string) int {
	n := 0
	for block := range strings.SplitSeq(dump, "\n\n") {
		head, _, _ := strings.Cut(strings.TrimSpace(block), "\n")
		if strings.HasPrefix(head, "goroutine ") && strings.HasSuffix(head, "]:") && !strings.Contains(block, "created by runtime.") {
			n++
		}
	}
	return n
}

// pause lets time pass: there is nothing to wait for but the clock.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

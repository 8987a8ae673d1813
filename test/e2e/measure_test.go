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
	// A process's clock has its number in a clock id (clock_getcpuclockid(3)): the complement, and
	// the kind.
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

// goroutines counts those of a stack dump that a Go program prints when it is killed with SIGQUIT,
// without the runtime's own: those that it makes as it needs them, and the scheduler's, number 0,
// which is in the dump only when the signal found its thread there.
func goroutines(dump string) int {
	n := 0
	for block := range strings.SplitSeq(dump, "\n\n") {
		head, _, _ := strings.Cut(strings.TrimSpace(block), "\n")
		scheduler := strings.HasPrefix(head, "goroutine 0 ")
		if strings.HasPrefix(head, "goroutine ") && strings.HasSuffix(head, "]:") && !scheduler && !strings.Contains(block, "created by runtime.") {
			n++
		}
	}
	return n
}

func TestGoroutines_areThoseOfTheProgram(t *testing.T) {
	const (
		program = "goroutine 1 gp=0x1 m=nil [select, 1 minutes]:\nmain.main()\n\n" +
			"goroutine 42 gp=0x2 m=6 mp=0x3 [syscall]:\nmain.read()\ncreated by sync.(*WaitGroup).Go in goroutine 1\n\n"
		runtime   = "goroutine 57 gp=0x4 m=nil [GC worker (idle)]:\nruntime.gopark()\ncreated by runtime.gcBgMarkStartWorkers in goroutine 1\n\n"
		scheduler = "goroutine 0 gp=0x5 m=0 mp=0x6 [idle]:\nruntime.futex()\n\n"
		registers = "rax    0x0\nrbx    0x0\n"
	)
	for _, dump := range []string{
		"SIGQUIT: quit\nPC=0x48dac1 m=0 sigcode=0\n\n" + program + runtime + registers,
		"SIGQUIT: quit\nPC=0x48dac1 m=0 sigcode=0\n\n" + scheduler + program + registers,
	} {
		if n := goroutines(dump); n != 2 {
			t.Errorf("%d goroutines, want 2, in\n%s", n, dump)
		}
	}
}

// pause lets time pass: there is nothing to wait for but the clock.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

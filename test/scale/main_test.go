package scale

import (
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

func TestMain(m *testing.M) { os.Exit(testnet.RunSuite(m, 2)) }

// limit bounds whatever is to happen on a machine that is busy with all the agents. At a start each
// of them verifies the documents of all, which takes 1,000 agents minutes of two processors.
func limit() time.Duration { return max(2*time.Minute, time.Duration(count())*time.Second) }

// count returns TUND_TEST_SCALE; 0: it is not set, or no number.
func count() int {
	n, _ := strconv.Atoi(os.Getenv("TUND_TEST_SCALE"))
	return n
}

// agents returns how many sites have an agent; without a number the test is skipped.
func agents(t *testing.T) int {
	t.Helper()
	testnet.Require(t)
	if os.Getenv("TUND_TEST_SCALE") == "" {
		t.Skip("takes all processors for a while: make scale runs it (TUND_TEST_SCALE=200)")
	}
	n := count()
	if n < 10 || n > 10_000 {
		t.Fatal("TUND_TEST_SCALE: want a number from 10 to 10000")
	}
	return n
}

// long reports whether the faults that wait for minutes are to be tried, too.
func long() bool { return os.Getenv("TUND_TEST_SCALE_LONG") != "" }

// halfOfMemory returns half of what this machine has, in bytes; the rest is for etcd.
func halfOfMemory(t *testing.T) int64 {
	t.Helper()
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	return int64(info.Totalram) * int64(info.Unit) / 2
}

package ethernet

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// On a bridge that knows 16,384 hosts tund starts within a second, knows them all within another,
// and then does next to nothing.
func TestSoakBridge_ofManyHosts(t *testing.T) {
	testnet.Soak(t)
	alone(t)
	const hosts = 16384
	berlin, paris := twoSites(t)
	berlin.tap = append(berlin.tap, fmt.Sprintf("max_macs = %d", 2*hosts))
	port := berlin.host(1).port
	var batch strings.Builder
	for i := range hosts {
		fmt.Fprintf(&batch, "fdb add 02:00:00:01:%02x:%02x dev %s master dynamic\n", i>>8, i&0xff, port)
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	berlin.NS.Run(t, "bridge", "-batch", file)
	paris.start()
	berlin.write()
	began := time.Now()
	process := berlin.Launch()
	berlin.Ready()
	ready := time.Since(began)
	testnet.Await(t, "all hosts to be known", 10*time.Second, func() bool { return len(berlin.Status().FDB) >= hosts })
	t.Logf("ready after %v, all hosts known after %v", ready, time.Since(began))
	if ready > slowly(time.Second) {
		t.Errorf("ready after %v, want at most a second", ready)
	}
	if known := time.Since(began); known > slowly(2*time.Second) {
		t.Errorf("all hosts are known after %v, want at most two seconds", known)
	}
	berlin.linked(startLimit)
	pause(3 * time.Second) // what a start leaves to do is done
	const idle = 20 * time.Second
	before := processTime(t, process.Pid())
	pause(idle)
	if used := processTime(t, process.Pid()) - before; used > idle/200 {
		t.Errorf("%v of processor time in %v without traffic, want at most 0.5 %%", used, idle)
	} else {
		t.Logf("%v of processor time in %v without traffic", used, idle)
	}
}

// processTime is the processor time that a process has used, in steps of 10 ms (utime and stime in
// proc_pid_stat(5)).
func processTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

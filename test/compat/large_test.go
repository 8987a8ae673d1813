package compat

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/internal/testnet"
)

// Bounds of the largest request that WireGuard's own tests make.
const (
	largePrefixes = 255 * 256 * 2
	largeTime     = 2 * time.Second
	largeMemory   = 200 << 20
)

// process returns the id of the process behind a device: it is the one that has the socket open.
func (d *device) process() int {
	d.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		args, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		words := strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")
		if err == nil && words[len(words)-1] == d.name && strings.HasSuffix(words[0], "tund") {
			return pid
		}
	}
	d.t.Fatalf("no process for %s", d.name)
	return 0
}

// memory returns a field of /proc/PID/status, in bytes.
func (d *device) memory(field string) int {
	d.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.process()))
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err != nil {
				d.t.Fatal(err)
			}
			return kb << 10
		}
	}
	d.t.Fatalf("no %s", field)
	return 0
}

func TestLarge_oneRequestOfAllAllowedIPs(t *testing.T) {
	d := start(t, testnet.New(t), testnet.Tund(t))
	var conf strings.Builder
	fmt.Fprintf(&conf, "[Interface]\nPrivateKey = %s\n[Peer]\nPublicKey = %s\n", d.key.Base64(), publicKeys(t, 1)[0])
	for i := 1; i <= 255; i++ {
		for j := range 256 {
			fmt.Fprintf(&conf, "AllowedIPs=%d.%d.0.0/16,%x::%x/128\n", i, j, i, j)
		}
	}
	path := d.file("conf", conf.String())
	start := time.Now()
	d.wg("setconf", path)
	out := d.wg("show", "allowed-ips")
	took := time.Since(start)
	// A key may hold slashes as well.
	if n := strings.Count(out, "/"); n < largePrefixes || n > largePrefixes+8 {
		t.Errorf("%d allowed IPs, want %d", n, largePrefixes)
	}
	peak, budget, slack := d.memory("VmHWM"), largeMemory, largeTime
	if testnet.RaceDetector {
		budget, slack = 10*budget, 10*slack
	}
	if took > slack {
		t.Errorf("set and read back in %v, want %v", took, slack)
	}
	if peak > budget {
		t.Errorf("took %d MB, want %d", peak>>20, budget>>20)
	}
	t.Logf("set and read back in %v, with %d MB at most", took, peak>>20)
	// With the memory given back, and all of them removed again.
	d.wg("setconf", d.file("conf", "[Interface]\n"))
	if out := d.wg("show", "allowed-ips"); out != "" {
		t.Errorf("allowed IPs after all peers were removed: %.100s", out)
	}
}

func TestLarge_manyPeers(t *testing.T) {
	t.Parallel()
	d := start(t, testnet.New(t), testnet.Tund(t))
	k := publicKeys(t, 40)
	var conf strings.Builder
	conf.WriteString("[Interface]\n") // no key: nothing else is missing
	for i, key := range k {
		fmt.Fprintf(&conf, "[Peer]\nPublicKey = %s\n", key)
		for j := 1; j <= 52; j++ {
			fmt.Fprintf(&conf, "AllowedIPs = %d.%d.0.0/16\n", i+1, j)
		}
	}
	d.apply("setconf", conf.String())
	rows := strings.Split(strings.TrimSpace(d.wg("show", "allowed-ips")), "\n")
	if len(rows) != len(k) {
		t.Fatalf("%d peers, want %d", len(rows), len(k))
	}
	for i, row := range rows {
		if f := strings.Fields(row); f[0] != k[i] || len(f) != 53 {
			t.Errorf("peer %d: %s with %d allowed IPs, want %s with 52", i, f[0], len(f)-1, k[i])
		}
	}
}

package linkbench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/linkbench/result"
	"tund/internal/testnet"
)

func TestChoose_keepsTheOrder(t *testing.T) {
	t.Parallel()
	chosen, err := choose([]string{"tund-l2", "veth", "loopback"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range chosen {
		names = append(names, k.name)
	}
	if want := []string{"loopback", "veth", "tund-l2"}; !slices.Equal(names, want) {
		t.Errorf("%q, not %q", names, want)
	}
	if all, err := choose(nil); err != nil || len(all) != len(Names()) {
		t.Errorf("%d rows, %v", len(all), err)
	}
	if _, err := choose([]string{"veth", "token-ring"}); err == nil || !strings.Contains(err.Error(), `"token-ring" (there are physical, `) {
		t.Errorf("%v", err)
	}
	if _, err := choose([]string{}); err == nil {
		t.Error("no rows are accepted")
	}
}

func TestRows_sayWhatTheyAre(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, r := range Rows() {
		if r.Name == "" || seen[r.Name] || r.About == "" || r.Path == "" || r.Use == "" || r.Group == "" {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
	}
}

func TestOptions_check(t *testing.T) {
	t.Parallel()
	good := Options{Rounds: 1, Time: MinTime}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, o := range []Options{
		{Rounds: 0, Time: MinTime}, {Rounds: MaxRounds + 1, Time: MinTime}, {Rounds: 1, Time: MinTime - 1}, {Rounds: 1, Time: MaxTime + 1},
		{Rounds: 1, Time: MinTime, Rows: []string{"x"}},
	} {
		if o.Check() == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if two := (Options{Rounds: 2, Time: time.Second}).Estimate(); two != 2*(Options{Rounds: 1, Time: time.Second}).Estimate() {
		t.Errorf("%v", two)
	}
}

// The search finds what a device carries, however fast the sender is.
func TestParseCPU(t *testing.T) {
	t.Parallel()
	got, err := parseCPU("cpu  100 20 30 4000 500 6 7 800 9 10\ncpu0 1 2 3\n")
	if err != nil || got != 1.63 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "intr 1 2 3 4 5 6 7 8", "cpu 1 2", "cpu a 2 3 4 5 6 7 8"} {
		if _, err := parseCPU(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestProcessor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\ncpu family\t: 1\n": "AMD EPYC (family 26, model 2)",
		"CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n":                                                                "(implementer 0x41, part 0xd0c)",
		"model name\t: PA7300LC\n": "PA7300LC",
	} {
		if got := processor(text); !strings.HasSuffix(got, want) {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if processor("") == "" {
		t.Error("no name")
	}
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	speed := 10
	var r result.Row
	summarize(&r, []sample{{mtu: 1500, claimed: &speed, gbps: 3, p99: 1}, {gbps: 1, p99: 2}, {gbps: 2, p99: 4}})
	if r.MTU != 1500 || *r.ClaimedMbit != 10 || *r.Gbps != (result.Figure{Median: 2, Least: 1, Most: 3}) || r.P99.Median != 2 {
		t.Errorf("%+v %+v", r, r.Gbps)
	}
}

// Only one run at a time has the directory, and it begins empty.
func TestClaim(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bench")
	first, err := claim(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(path); err == nil || !strings.Contains(err.Error(), "another measurement is running") {
		t.Errorf("%v", err)
	}
	// It is killed: the kernel unlocks, and the files stay.
	if err := os.WriteFile(filepath.Join(path, "key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = first.lock.Close()
	second, err := claim(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of the killed run is left: %v", err)
	}
	second.release()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("build: %w", &absent{"devices of type x"})
	if !isAbsent(err) || isAbsent(unix.EOPNOTSUPP) {
		t.Error(err)
	}
	if !lacks(fmt.Errorf("x: %w", unix.EOPNOTSUPP)) || lacks(unix.EPERM) || lacks(nil) {
		t.Error("lacks")
	}
}

// Two rows are built and measured, in the order of the table, and nothing is left; a row for which
// there is no program says so.
func TestRun(t *testing.T) {
	testnet.Require(t)
	dir := filepath.Join(t.TempDir(), "bench")
	var steps []string
	r, err := Run(t.Context(), Options{
		Rows: []string{"tund-l3", "tun", "veth"}, Rounds: 1, Time: MinTime, Dir: dir,
		Progress: func(s Step) { steps = append(steps, fmt.Sprintf("%d/%d %s %s", s.Done, s.Total, s.Row, s.What)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 3 || r.Rows[0].Name != "veth" || r.Rows[1].Name != "tun" || r.Kernel == "" || r.Processor == "" || r.Background < 0 || r.Background > 1 {
		t.Fatalf("%+v", r)
	}
	for _, row := range r.Rows[:2] {
		if row.State != result.Measured || row.MTU != 1500 || row.Gbps.Median <= 0 || row.KPPS.Median <= 0 || row.P50.Median <= 0 || row.P99.Median < row.P50.Median {
			t.Errorf("%+v", row)
		}
	}
	if last := r.Rows[2]; last.State != result.Failed || !strings.Contains(last.Why, "--tund") {
		t.Errorf("%+v", last)
	}
	if len(steps) < 9 || steps[0] != "0/3 veth building" {
		t.Errorf("%q", steps)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// An interrupt ends a run at once, and removes what was built.
func TestRun_interrupted(t *testing.T) {
	testnet.Require(t)
	dir := filepath.Join(t.TempDir(), "bench")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, Options{Rows: []string{"veth"}, Rounds: 1, Time: MaxTime, Dir: dir, Progress: func(s Step) {
		if s.What == "throughput" {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

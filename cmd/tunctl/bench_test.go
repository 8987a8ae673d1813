package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/linkbench"
	"tund/internal/linkbench/result"
	"tund/internal/screen"
)

// benchReport has a row of each state.
func benchReport() *result.Report {
	speed := 10000
	f := result.NewFigure([]float64{1, 2, 3})
	rows := linkbench.Rows()[:3]
	rows[0].State, rows[0].MTU, rows[0].ClaimedMbit = result.Measured, 1500, &speed
	rows[0].Gbps, rows[0].CPUPerGB, rows[0].KPPS, rows[0].P50, rows[0].P99 = f, f, f, f, f
	rows[1].State, rows[1].Why = result.Absent, "not in this kernel"
	rows[2].State, rows[2].Why = result.Failed, "failed"
	return &result.Report{Schema: result.Schema, Time: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Kernel: "6.18", Processor: "CPU", CPUs: 2,
		Tund: "1.2.3", Rounds: 3, Seconds: 1, Rows: rows, Background: 0.5}
}

func TestBench_documentIsWhatTheSchemaSays(t *testing.T) {
	t.Parallel()
	schemaText, err := os.ReadFile(schemaFile("bench"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(benchReport())
	if err != nil {
		t.Fatal(err)
	}
	var schema object
	var document any
	if err := json.Unmarshal(schemaText, &schema); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for _, v := range violations("bench", schema, document) {
		t.Error(v)
	}
}

// A row without figures is in the table, with the reason below it, in every width.
func TestBench_page(t *testing.T) {
	t.Parallel()
	for _, width := range []int{0, 80, 200} {
		s := screen.NewPage(screen.Style{Width: width, UTF8: true}, time.Now(), false)
		s.Bench(benchReport())
		for _, want := range []string{"physical", "loopback", "veth", "2.00", "! loopback: not in this kernel", "! veth: failed", "! other programs used 50 % of the machine", "Linux 6.18, tund 1.2.3"} {
			if !strings.Contains(s.String(), want) {
				t.Errorf("no %q in\n%s", want, s)
			}
		}
		for line := range strings.Lines(s.String()) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); width > 0 && n > width {
				t.Errorf("%d of %d columns: %s", n, width, line)
			}
		}
	}
}

func TestBench_wrongUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for args, want := range map[string]string{
		"--rows token-ring":     `there is no row "token-ring"`,
		"--rounds 0":            "out of range (1 to 99)",
		"--time 1ms":            "out of range (50ms to 1m0s)",
		"--plot speeds.pdf":     "has to end in .svg or .png",
		"--rows veth --rows ''": "there is no row",
	} {
		code, out, errs := w.run(append([]string{"bench"}, strings.Fields(args)...)...)
		if code != exit.Misused || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %s%s", args, code, out, errs)
		}
	}
}

func TestBench_list(t *testing.T) {
	t.Parallel()
	code, out, errs := newWorld(t).run("bench", "--list")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != exit.OK || len(lines) != len(linkbench.Names()) || !strings.HasPrefix(lines[0], "physical ") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

func TestBench_plot(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"speeds.svg", "SPEEDS.PNG"} {
		path := filepath.Join(t.TempDir(), name)
		if err := plot(path, benchReport()); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() < 1000 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJudge_dropsDisturbedRounds(t *testing.T) {
	t.Parallel()
	guards := []guard{
		{Link: linkVeth, Round: 0, Control: 20},
		{Link: linkVeth, Round: 1, Control: 20.5, Steal: 0.05},
		{Link: linkVeth, Round: 2, Control: 15},
		{Link: linkVeth, Round: 3, Control: 19.5},
		{Link: linkVeth, Round: 4, Control: 20, Background: 0.5},
		{Link: linkVeth, Round: 5, Control: 20},
	}
	if noisy := judge(guards); len(noisy) != 0 {
		t.Errorf("noisy = %v, want none", noisy)
	}
	for i, word := range []string{"", "steal", "control", "", "others", ""} {
		if got := guards[i].Dropped; (word == "") != (got == "") || !strings.Contains(got, word) {
			t.Errorf("round %d: dropped %q, want %q in it", i, got, word)
		}
	}
}

func TestJudge_keepsAllRoundsOfAMachineThatIsNeverQuiet(t *testing.T) {
	t.Parallel()
	guards := []guard{
		{Link: linkVeth, Control: 20, Background: 0.9}, {Link: linkVeth, Round: 1, Control: 20, Background: 0.8},
		{Link: linkVeth, Round: 2, Control: 20}, {Link: linkNIC, Control: 5},
	}
	noisy := judge(guards)
	if len(noisy) != 1 || noisy[0] != linkVeth {
		t.Errorf("noisy = %v, want %s", noisy, linkVeth)
	}
	for _, g := range guards {
		if g.Dropped != "" {
			t.Errorf("%s round %d dropped: %s", g.Link, g.Round, g.Dropped)
		}
	}
}

// threeRounds is a run of two contenders whose ratio is 2 in every round, while the machine's speed
// varies.
func threeRounds() ([]about, []guard, []result) {
	contenders := []about{{Name: baseline, MTU: 1420}, {Name: "tund", MTU: 1420}}
	var guards []guard
	var results []result
	for round, speed := range []float64{1, 3, 2} {
		guards = append(guards, guard{Link: linkVeth, Round: round, Control: 20})
		for i, c := range contenders {
			results = append(results, result{Link: linkVeth, Round: round, Contender: c.Name, Case: "tcp1",
				Metrics: metrics{"gbps": speed * float64(i+1), "cpu_s_per_gb": 4}})
		}
	}
	return contenders, guards, results
}

func findSummary(t *testing.T, all []summary, contender, name string) summary {
	t.Helper()
	for _, s := range all {
		if s.Contender == contender && s.Metric == name {
			return s
		}
	}
	t.Fatalf("no summary of %s for %s", name, contender)
	return summary{}
}

func TestSummarize_takesRatiosRoundByRound(t *testing.T) {
	t.Parallel()
	contenders, guards, results := threeRounds()
	all := summarize(allCases(), contenders, guards, results, 1)
	got := findSummary(t, all, "tund", "gbps")
	if want := (spread{N: 3, Median: 4, Min: 2, Max: 6}); got.Values != want {
		t.Errorf("values = %+v, want %+v", got.Values, want)
	}
	if got.Ratio == nil || *got.Ratio != (interval{N: 3, Median: 2, Low: 2, High: 2}) {
		t.Errorf("ratio = %+v, want 2 in every round", got.Ratio)
	}
	if s := findSummary(t, all, baseline, "gbps"); s.Ratio != nil {
		t.Errorf("the baseline has a ratio to itself: %+v", s.Ratio)
	}
}

func TestSummarize_leavesOutDroppedRoundsAndCountsFailures(t *testing.T) {
	t.Parallel()
	contenders, guards, results := threeRounds()
	guards[1].Dropped = "steal"
	results[5] = result{Link: linkVeth, Round: 2, Contender: "tund", Case: "tcp1", Error: "no ping"}
	all := summarize(allCases(), contenders, guards, results, 1)
	got := findSummary(t, all, "tund", "gbps")
	if got.Values.N != 1 || got.Values.Median != 2 || got.Failed != 1 {
		t.Errorf("values %+v, %d failed, want round 0 alone and one failure", got.Values, got.Failed)
	}
	if base := findSummary(t, all, baseline, "gbps"); base.Values.N != 2 {
		t.Errorf("baseline has %d rounds, want 2", base.Values.N)
	}
}

func TestReport_printsAndSavesWhatWasFound(t *testing.T) {
	t.Parallel()
	contenders, guards, results := threeRounds()
	contenders = append(contenders, about{Name: "nebula", Skipped: "needs another Go"})
	r := report{Schema: "tund.bench/v1", Options: options{Links: []linkModel{linkVeth}, Rounds: 3}, Complete: true,
		Contenders: contenders, Rounds: guards, Results: results, Summary: summarize(allCases(), contenders, guards, results, 1)}
	var out strings.Builder
	r.print(&out, allCases())
	for _, want := range []string{"tcp1: one TCP flow", "4.00 [2.00 to 6.00]", "2.00 [2.00, 2.00]", "left out: needs another Go"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	path := filepath.Join(t.TempDir(), "new", "bench.json")
	if err := r.save(path, ""); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(text, &back); err != nil || back.Schema != r.Schema || len(back.Results) != len(results) {
		t.Errorf("read back %q with %d results, %v", back.Schema, len(back.Results), err)
	}
}

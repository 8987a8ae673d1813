package web

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// known returns the names of all metrics of an instance.
func known() []string {
	s := (&fake{peers: manyPeers(1)}).Sample()
	var names []string
	for _, f := range families(&s, new(peerTable)) {
		names = append(names, f.name)
	}
	return names
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocs_haveEveryMetric(t *testing.T) {
	t.Parallel()
	names := known()
	text := read(t, "../../docs/howto/monitoring.md")
	for _, name := range names {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/howto/monitoring.md does not have %s", name)
		}
	}
	used := 0
	for _, path := range []string{"../../docs/howto/monitoring.md", "../../examples/monitoring/tund.rules.yml",
		"../../examples/monitoring/tund.rules.test.yml", "../../examples/monitoring/grafana-dashboard.json"} {
		for _, name := range regexp.MustCompile(`\btund_\w+`).FindAllString(read(t, path), -1) {
			used++
			if !slices.Contains(names, name) {
				t.Errorf("%s uses %s, which does not exist", path, name)
			}
		}
	}
	if used < 50 {
		t.Errorf("only %d uses of metrics found", used)
	}
}

// Prometheus's own tool takes our metrics and our rules.
func TestExamples_promtool(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool (Debian: prometheus) is not installed")
	}
	_, metrics, _ := get(t, open(t, &fake{peers: manyPeers(3)})+"/metrics")
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(metrics)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	for _, args := range []string{"check config prometheus.yml", "test rules tund.rules.test.yml"} {
		run := exec.Command("promtool", strings.Fields(args)...)
		run.Dir = "../../examples/monitoring"
		if out, err := run.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", args, err, out)
		}
	}
}

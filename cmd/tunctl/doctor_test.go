package main

import (
	"encoding/json"
	"strings"
	"testing"

	"tund/internal/doctor"
	"tund/internal/screen/screentest"
)

// A program that asks for a document gets one, also while nothing runs.
func TestDoctor_documentOfNothing(t *testing.T) {
	t.Parallel()
	newWorld(t).expect(69, `"instances": []`, "no instance is running", "doctor", "--json")
}

func TestDoctor_explainsAndEndsWithTheSeverity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	office := screentest.Office()
	w.start(office)
	code, out, errs := w.run("doctor")
	if code != exitProblems || errs != "" {
		t.Errorf("%d, %q", code, errs)
	}
	for _, want := range []string{"✗ office: 1 problem, 1 warning", "sessions (problem): branch-oslo: no answer to 17 initiations", "    seen down since", "    do   ",
		"other (warning): vm-host-3: storm control", "✓ nothing found by: versions"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if i, j := strings.Index(out, "branch-oslo"), strings.Index(out, "storm control"); i > j {
		t.Errorf("the problem does not come first:\n%s", out)
	}
	code, out, _ = w.run("doctor", "--json", "branch-berlin")
	var document doctor.Document
	if err := json.Unmarshal([]byte(out), &document); err != nil || document.Schema != doctor.Schema || len(document.Instances) != 1 ||
		strings.Contains(out, "oslo") || code != 0 {
		t.Errorf("%d, %v\n%s", code, err, out)
	}
	w.env["LANG"], w.width = "C", 60
	_, out, _ = w.run("doctor", "-a", "--color", "never")
	for line := range strings.Lines(out) {
		if len(strings.TrimRight(line, "\n")) > 60 && !strings.Contains(line, "http") {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
			t.Errorf("not ASCII: %q", line)
		}
	}
	w.expect(1, "", `no peer "nobody"`, "doctor", "nobody")
	w.expect(69, "", "is not running", "doctor", "-i", "other")
}

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"tund/cmd/tunctl/internal/display"
	"tund/internal/control"
	"tund/internal/screen/screentest"
)

func TestTop_withoutATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(screentest.Office())
	code, out, errs := w.run("top", "--count", "1", "--interval", "100ms", "--sort", "state")
	if code != 0 || errs != "" || strings.Contains(out, "\x1b") || strings.Count(out, "branch-oslo") != 1 ||
		strings.Index(out, "branch-oslo") > strings.Index(out, "branch-berlin") {
		t.Errorf("%d, %q\n%s", code, errs, out)
	}
	code, out, _ = w.run("top", "--count", "2", "--interval", "100ms", "--json", "oslo")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var line display.TopLine
	if err := json.Unmarshal([]byte(lines[0]), &line); err != nil || code != 0 || len(lines) != 2 || line.Schema != display.TopSchema ||
		len(line.Peers) != 1 || line.Peers[0].State != control.StateDown {
		t.Errorf("%d, %v\n%s", code, err, out)
	}
	w.expect(2, "", `--sort "size" is not one of traffic, name`, "top", "--sort", "size")
	w.expect(2, "", "--interval 1ms is less than", "top", "--interval", "1ms")
	newWorld(t).expect(69, "", "no instance is running", "top")
}

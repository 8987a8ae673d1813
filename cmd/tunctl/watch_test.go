package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/screen/screentest"
)

func TestWatch_showsAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(screentest.Office())
	args := []string{"status", "--watch", "--interval", "100ms", "--count", "2"}
	code, out, errs := w.run(args...)
	if code != 0 || errs != "" || strings.Count(out, "branch-oslo") < 2 || strings.Count(out, screentest.Noon().Format(time.RFC3339)+"\n") != 2 || strings.Contains(out, "\x1b") {
		t.Errorf("piped: %d, %q\n%s", code, errs, out)
	}
	code, out, _ = w.run(append(args, "--json")...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines {
		var s control.Status
		if err := json.Unmarshal([]byte(line), &s); err != nil || len(s.Instances) != 1 {
			t.Errorf("%v in %q", err, line)
		}
	}
	if code != 0 || len(lines) != 2 {
		t.Errorf("--json: %d, %d lines", code, len(lines))
	}
	w.width, w.height = 80, 10
	code, out, _ = w.run(args...)
	const enter, leave, home, clearBelow = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H", "\x1b[J"
	frames := strings.Split(out, home)[1:]
	if code != 0 || !strings.HasPrefix(out, enter) || !strings.Contains(out, leave) || len(frames) != 2 {
		t.Fatalf("terminal: %d\n%q", code, out)
	}
	frame, _, _ := strings.Cut(frames[0], clearBelow)
	if n := strings.Count(frame, "\n") + 1; n != 10 {
		t.Errorf("a frame has %d lines, the terminal 10:\n%s", n, frame)
	}
	if !strings.Contains(frame, "more - every 100ms, 12:00:00") {
		t.Errorf("the last line is wrong in\n%s", frame)
	}
	w.env["TERM"] = "dumb"
	if _, out, _ := w.run(args...); strings.Contains(out, "\x1b") {
		t.Errorf("TERM=dumb: %q", out)
	}
	w.expect(2, "", "--interval 1ms is less than 100ms", "--watch", "--interval", "1ms")
}

// A watch goes on while nobody is there to ask.
func TestWatch_outlivesTheInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code, _, errs := w.run("--watch", "--interval", "100ms", "--count", "2")
	if code != 0 || strings.Count(errs, "no instance is running") != 2 {
		t.Errorf("%d, %q", code, errs)
	}
}

func TestSuggestions_nameWhatWasMeant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for typed, meant := range map[string]string{
		"stauts": `"status"`, "relaod": `"reload"`, "peers": `"peer"`, "validate": `"check"`, "fdb list": `"show"`, "fdb flsh": `"flush"`,
		"status --jsn": `"--json"`, "peer invit x": `"invite"`, "improt x": `"import"`,
	} {
		w.expect(2, "", "did you mean "+meant+"?", strings.Fields(typed)...)
	}
	_, _, errs := w.run("quux")
	if strings.Contains(errs, "mean") {
		t.Errorf("a suggestion for nothing: %s", errs)
	}
}

// A value that a flag cannot have is refused in words for operators, not for programmers in Go.
func TestFlags_sayWhatTheyTake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for typed, want := range map[string]string{
		"peer set x --keepalive soon": `--keepalive: "soon" is not a whole number`, "--interval 5": `--interval: "5" is not a time with its unit`,
		"status --all=perhaps": `--all: "perhaps" is not true or false`,
	} {
		w.expect(2, "", want, strings.Fields(typed)...)
	}
}

func TestCheck_saysEverythingAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.write("hub.toml", hub(newKey(t), newKey(t)))
	w.expect(0, "hub.toml: ok, 1 peer\n", "", "check", path)
	w.expect(0, "hub.toml: ok, 1 peer\n", "", "check")
	bad := w.write("bad.toml", "[tunel]\n[tun]\nmtu = 1\n")
	w.expect(78, "bad.toml: 3 errors\n", "bad.toml:1:1: ", "check", bad)
	w.expect(78, `"column": 7`, "", "check", bad, "--json")
	w.expect(78, "", "no such file", "check", bad+"x")
	w.expect(78, `no such file or directory"`, "", "check", bad+"x", "--json")
}

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"tund/internal/events"
	"tund/internal/screen/screentest"
)

func TestMonitor_showsWhatHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.start(screentest.Office())
	vlan := 7
	for _, e := range []events.Event{
		{Kind: events.PeerState, Peer: "branch-oslo", State: "down", Was: "up", Reason: "no answer", Message: "branch-oslo is down: no answer"},
		{Kind: events.MACMoved, MAC: "02:00:00:00:00:01", VLAN: &vlan, Port: "berlin\x1b[31m", Message: "moved to berlin\x1b[31m"},
		{Kind: events.Config, State: "refused", Message: "the configuration file was refused", Reason: "office.toml:1:1: bad"},
	} {
		e.Time = screentest.Noon()
		f.events.Add(e)
	}
	code, out, errs := w.run("monitor", "--after", "0", "--count", "3")
	if code != 0 || errs != "" || strings.Contains(out, "\x1b") ||
		!strings.Contains(out, ".000  peer-state   branch-oslo is down: no answer\n") ||
		!strings.Contains(out, "  config       the configuration file was refused: office.toml:1:1: bad\n") {
		t.Errorf("%d, %q\n%s", code, errs, out)
	}
	_, out, _ = w.run("monitor", "--after", "0", "--count", "1", "branch-oslo", "--color", "always")
	if !strings.Contains(out, "\x1b[31mbranch-oslo is down") {
		t.Errorf("in colour: %q", out)
	}
	_, out, _ = w.run("monitor", "--after", "0", "--count", "1", "--kinds", "mac-moved,loop", "--json")
	var e followed
	if err := json.Unmarshal([]byte(out), &e); err != nil || e.Instance != "office" || e.Kind != events.MACMoved || *e.VLAN != 7 || e.N == 0 {
		t.Errorf("%v in %s", err, out)
	}
	_, out, _ = w.run("monitor", "--after", "1", "--count", "1", "--json")
	if !strings.Contains(out, `"kind":"gone"`) {
		t.Errorf("events of another run: %s", out)
	}
	w.expect(2, "", `--kinds: there is no kind "mac" (there are handshake, peer-state`, "monitor", "--kinds", "mac")
	w.expect(2, "", "--count -1 is less than 0", "monitor", "--count", "-1")
}

func TestMonitor_saysThatNobodyIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expect(69, "", "no instance is running", "monitor")
	w.expect(69, "", `instance "office" is not running`, "monitor", "-i", "office")
}

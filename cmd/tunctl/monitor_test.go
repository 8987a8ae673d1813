package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"tund/cmd/tunctl/internal/follow"
	"tund/internal/control"
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
	var e follow.Event
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

func TestMonitor_namesThatNothingHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.start(screentest.Office())
	w.expect(1, "", `no peer "branch-olso": did you mean "branch-oslo"?`, "monitor", "branch-olso")
	w.expect(1, "", `"branch-" fits 2 peers`, "monitor", "branch-")
	f.events.Add(events.Event{Time: screentest.Noon(), Kind: events.PeerState, Peer: "branch-munich", State: "down", Message: "branch-munich was removed"})
	f.events.Add(events.Event{Time: screentest.Noon(), Kind: events.MACLearned, Port: "office-tap", Message: "02:00:00:00:00:01 is behind office-tap"})
	f.events.Add(events.Event{Time: screentest.Noon(), Kind: events.PeerState, Peer: "branch-oslo", State: "up", Message: "branch-oslo is up"})
	w.expect(0, "branch-munich was removed", "those of peers that are gone", "monitor", "branch-munich", "--after", "0", "--count", "1")
	w.expect(0, "is behind office-tap", "", "monitor", "office-tap", "--after", "0", "--count", "1")
	w.expect(0, "branch-oslo is up", "", "monitor", "branch-o", "--after", "0", "--count", "1")
}

// What an agent hands in may not be there yet.
func TestMonitor_waitsForWhatAnAgentMayHandIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := screentest.Office()
	i.Sources = []control.Source{{Name: "file"}, {Name: "agent"}}
	f := w.start(i)
	errs, told := io.Pipe()
	t.Cleanup(func() { _ = errs.Close() })
	var out bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- run([]string{"monitor", "munich", "--count", "1"}, w.environment(&out, told)) }()
	line, err := bufio.NewReader(errs).ReadString('\n')
	if err != nil || line != "tunctl: no peer is called \"munich\" now: waiting for events about it, since the agent of office may hand it in\n" {
		t.Errorf("%q, %v", line, err)
	}
	// It follows soon after it has said so: what happens before is not for it to show.
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			f.events.Add(events.Event{Time: screentest.Noon(), Kind: events.PeerState, Peer: "munich", State: "up", Message: "munich is up"})
			continue
		case code := <-ended:
			if code != 0 || !strings.Contains(out.String(), "munich is up") {
				t.Errorf("%d, %q", code, &out)
			}
		}
		return
	}
}

package web

import (
	"context"
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

func TestPage_needsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	status, text, header := get(t, open(t, &fake{})+"/")
	policy := header.Get("Content-Security-Policy")
	if status != 200 || !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("%d, %s", status, policy)
	}
	// The only addresses in it are that of SVG's namespace, which nobody asks, and its own.
	for _, address := range regexp.MustCompile(`(https?:)?//[\w.]+|(src|href|action)="[^"]*"|url\(|@import|import\(`).FindAllString(text, -1) {
		if address != "http://www.w3.org" && address != `href="metrics"` {
			t.Errorf("the page names %s", address)
		}
	}
	// Names that peers chose never become markup.
	if found := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function`).FindString(text); found != "" {
		t.Errorf("the page uses %s", found)
	}
}

func TestPage_documentIsWhatTheInstanceIs(t *testing.T) {
	t.Parallel()
	_, text, header := get(t, open(t, &fake{})+"/page.json")
	var d pageDocument
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.Name != "office" || d.Worst != "problem" || len(d.Peers) != 1 || d.Peers[0].Drops != 5 || d.Peers[0].Handshake != 0 ||
		len(d.FDB) != 1 || d.FDBLimit != 10 || d.Suppression == nil || d.Suppression.Answered != 120 || d.StepS != 5 || header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", d)
	}
	if len(d.Drops) != 1 || d.Drops["replay"] != 7 || len(d.Spared) != 1 || d.Spared["not-flooded"] != 9 {
		t.Errorf("losses %v, no losses %v", d.Drops, d.Spared)
	}
	for _, f := range d.Findings {
		if f.Severity == "ok" || f.Cause == "" {
			t.Errorf("%+v", f)
		}
	}
	if strings.Contains(text, "<") { // also for whoever looks at it in a browser
		t.Errorf("markup in %s", text)
	}
}

// A thousand browsers cost no more than one.
func TestPage_isMadeOnceForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(&fake{}, zap.NewNop())
		first := s.current()
		time.Sleep(pageRefresh / 2)
		if second := s.current(); &second[0] != &first[0] {
			t.Error("recreated too soon")
		}
		time.Sleep(pageRefresh)
		if third := s.current(); &third[0] == &first[0] {
			t.Error("not recreated")
		}
	})
}

// counting is a Source whose traffic grows by 125 kB a second out of the tunnel.
type counting struct {
	fake
	start time.Time
}

func (c *counting) Traffic() (rx, tx uint64) {
	return uint64(time.Since(c.start)/time.Second) * 125_000, 7
}

func TestHistory_isTheLastQuarterOfAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(&counting{start: time.Now()}, zap.NewNop())
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute+time.Second)
		defer cancel()
		s.Run(ctx)
		rx, tx, _ := s.history.read()
		if len(rx) != historyLength || rx[0] != 1e6 || rx[historyLength-1] != 1e6 || tx[5] != 0 {
			t.Errorf("%d steps, %v", len(rx), rx[:3])
		}
	})
	var h history
	h.note(traffic{time.Unix(1, 0), 1000, 1000})
	h.note(traffic{time.Unix(6, 0), 10, 2000}) // another device
	if rx, tx, _ := h.read(); rx[0] != 0 || tx[0] != 1600 {
		t.Errorf("a counter that went back: %v, %v", rx, tx)
	}
}

// A browser shows the page under its own policy, with a peer whose name would like to be markup.
func TestPage_inABrowser(t *testing.T) {
	t.Parallel()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=4000", "--dump-dom", open(t, &fake{})+"/").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"✗ 1 problem – 1 peer: 1 down", "&lt;/script&gt;&lt;b&gt;", "no answer", "02:00:00:00:00:01", "7 replay", "office on gw"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in the page", want)
		}
	}
}

package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tund/internal/registry/view"
)

// A hostile site may have thousands of hosts move, others each time: the warnings stay few, and
// what was said is forgotten once it is over.
func TestReport_frozenHostsAreNamedInOneWarning(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	a := &Agent{o: Options{Log: zap.New(core)}, view: view.New(view.Options{}), warned: make(map[string]bool)}
	for round := range 3 {
		var d view.Decision
		for n := range 100 {
			d.Frozen = append(d.Frozen, view.HostID{MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", round, n)})
		}
		a.report(&d, time.Now())
		a.report(&d, time.Now())
	}
	if lines := logs.All(); len(lines) != 3 || !strings.Contains(fmt.Sprint(lines[2].ContextMap()), "02:00:00:00:02:07") {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
	if a.report(&view.Decision{}, time.Now()); len(a.warned) != 0 {
		t.Errorf("remembered for ever: %v", a.warned)
	}
}

// So it is with a site that claims the addresses of other hosts, others each time.
func TestReport_conflictsAreBounded(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	a := &Agent{o: Options{Log: zap.New(core)}, view: view.New(view.Options{}), warned: make(map[string]bool), begun: time.Now()}
	for round := range 10 {
		var d view.Decision
		for n := range 100 {
			d.Conflicts = append(d.Conflicts, fmt.Sprintf("10.0.%d.%d in VLAN 0 is used by hosts of a and b", round, n))
		}
		a.report(&d, time.Now())
	}
	if n := logs.Len(); n == 0 || n > 17 {
		t.Errorf("%d lines", n)
	}
	if n := len(a.status.Conflicts); n != 100 {
		t.Errorf("the status has %d conflicts", n)
	}
}

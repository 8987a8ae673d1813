package daemon

import (
	"context"
	"strings"
	"testing"

	"tund/route"
)

// TestGuard_whenSiteTrafficGoesNowhere: without a guard, traffic meant for the tunnel took the
// default route as soon as the device was gone.
func TestGuard_whenSiteTrafficGoesNowhere(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	before := kernelState(t)
	with := func(guard string) string {
		return strings.Replace(dualStack, "[[peer]]", "guard = \""+guard+"\"\n[[peer]]", 1)
	}
	leaks := func() bool {
		out, err := tryRoute("10.20.1.1")
		return err == nil && !strings.Contains(out, "dev "+device()+" ")
	}
	pristine := func(when string) {
		t.Helper()
		if after := kernelState(t); after != before {
			t.Errorf("%s: the kernel has\n%swant\n%s", when, after, before)
		}
	}
	for _, test := range []struct {
		guard                       string
		leaksAfterCrash, afterAStop bool
	}{
		{"off", true, true}, {"crash", false, true}, {"always", false, false},
	} {
		n := newInstance(t, with(test.guard))
		n.start()
		if leaks() {
			t.Errorf("%s: not into the tunnel", test.guard)
		}
		sh(t, "ip link delete %s", device())
		if err := n.ended(); err == nil {
			t.Errorf("%s: ended without an error", test.guard)
		}
		n.cancel()
		if got := leaks(); got != test.leaksAfterCrash {
			t.Errorf("%s: leaks after a crash: %t, want %t", test.guard, got, test.leaksAfterCrash)
		}
		n.start()
		n.stop()
		if got := leaks(); got != test.afterAStop {
			t.Errorf("%s: leaks after a stop: %t, want %t", test.guard, got, test.afterAStop)
		}
		if _, err := route.Cleanup("office"); err != nil {
			t.Error(err)
		}
		pristine(test.guard)
	}
	n := newInstance(t, with("crash"))
	ctx := n.prepare()
	n.d.opts.Restart = func() bool { return true }
	steps := append(n.d.mode.steps, step{"stop", func(context.Context) error { n.cancel(); return nil }})
	if err := n.d.run(ctx, steps); err != nil {
		t.Error(err)
	}
	if leaks() {
		t.Error("leaks between the stop and the start of a restart")
	}
	n.write(with("always"))
	n.start()
	if err := n.reloads(with("crash")); err != nil {
		t.Error(err)
	}
	n.stop()
	pristine("reloaded from always to crash")
}

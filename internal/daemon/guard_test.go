package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"tund/internal/control"
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

// TestGuard_ofTheAgentsNetworks: what an agent has handed in before a crash or a restart is not
// known to the next process until the agent speaks. Until then, traffic for these networks does not
// leave in the clear, unless the file no longer has them within what is the agent's.
func TestGuard_ofTheAgentsNetworks(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, fmt.Sprintf(agentFile, ""))
	leaks := func(when, host string, want bool) {
		t.Helper()
		out, err := tryRoute(host)
		if leaks := err == nil && !strings.Contains(out, "dev "+device()+" "); leaks != want {
			t.Errorf("%s: traffic for %s leaves in the clear: %t, want %t (%s)", when, host, leaks, want, out)
		}
	}
	put := func(generation uint64, peers ...int) {
		t.Helper()
		p := control.SourcePut{Epoch: "e", Generation: generation, Peers: []map[string]any{}}
		for _, i := range peers {
			p.Peers = append(p.Peers, sitePeer(i))
		}
		if _, err := n.agent().Put(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	crash := func() {
		t.Helper()
		sh(t, "ip link delete %s", device())
		if err := n.ended(); err == nil {
			t.Error("ended without an error")
		}
		n.cancel()
	}
	n.start()
	put(1, 1, 2)
	crash()
	leaks("after a crash", "10.100.1.1", false)
	n.start()
	leaks("the agent has not spoken", "10.100.1.1", false)
	if err := n.reloads(fmt.Sprintf(agentFile, "")); err != nil {
		t.Error(err)
	}
	leaks("nor after a reload", "10.100.2.1", false)
	put(2, 2)
	leaks("the agent has taken a network back", "10.100.1.1", true)
	leaks("and kept the other", "10.100.2.1", false)
	if _, err := n.agent().Put(t.Context(), control.SourcePut{
		Epoch: "e", Generation: 3, HoldS: 0.1, Peers: []map[string]any{sitePeer(1), sitePeer(2)},
	}); err != nil {
		t.Fatal(err)
	}
	n.await("the agent to have been silent for too long", func() bool { return n.sources() == "berlin:file(shadows)" || n.sources() == "berlin:file" })
	leaks("silence is no word", "10.100.1.1", false)
	if err := n.reloads(fmt.Sprintf(agentFile, "")); err != nil {
		t.Error(err)
	}
	leaks("nor is silence and a reload", "10.100.2.1", false)
	put(4, 2)
	leaks("the agent has spoken, and not of this network", "10.100.1.1", true)
	leaks("but of this one", "10.100.2.1", false)
	crash()
	n.write(strings.Replace(fmt.Sprintf(agentFile, ""), "10.0.0.0/8", "10.99.0.0/16", 1))
	n.start()
	leaks("the network is no longer the agent's", "10.100.2.1", true)
	n.stop()
	if r, g := routesTo(t, "10.0.0.0/8"); r+g != 0 {
		t.Errorf("after a stop: %d routes, %d guards", r, g)
	}
}

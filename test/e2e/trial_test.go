package e2e

import (
	"context"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// TestTrial_aRestartEndsIt: whoever has cut himself off by a configuration on trial may restart the
// host, or its process may be killed. The former configuration is then in force again.
func TestTrial_aRestartEndsIt(t *testing.T) {
	t.Parallel()
	g := newGateway(t, testnet.New(t), "office")
	g.addresses = []string{"10.9.0.1/24"}
	g.start()
	try := func(confirm time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		g.port++
		g.write()
		if err := g.Client().Reload(ctx, confirm); err != nil {
			t.Fatal(err)
		}
	}
	again := func(what string, end func(), want int, former bool) {
		t.Helper()
		end()
		g.Launch()
		g.Ready()
		if s := g.Status(); s.ListenPort != want || (s.ConfigError != "") != former {
			t.Errorf("%s: port %d, want %d; %q", what, s.ListenPort, want, s.ConfigError)
		}
	}
	stop := func() {
		if err := g.Process.Stop(syscall.SIGTERM, startLimit); err != nil {
			t.Error(err)
		}
	}
	try(time.Hour)
	again("killed on trial", g.Kill, listenPort, true)
	again("stopped after that", stop, listenPort, true)
	try(time.Hour)
	again("stopped on trial", stop, listenPort, true)
	try(time.Hour)
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := g.Client().Confirm(ctx); err != nil {
		t.Fatal(err)
	}
	again("killed after the confirmation", g.Kill, g.port, false)
	try(time.Hour)
	g.port += 100
	g.write() // somebody has corrected the file
	again("killed on trial, with another file", g.Kill, g.port, false)
	g.port -= 100
	g.write() // and then put back what was on trial
	again("stopped after that, with the file that was on trial once", stop, g.port, false)
	try(time.Hour)
	try(0)
	again("killed after a reload for good", g.Kill, g.port, false)
	try(time.Second)
	was := g.port - 1
	testnet.Await(t, "the trial ends", startLimit, func() bool { return g.Status().ListenPort == was })
	again("stopped after a trial that was not confirmed", stop, was, true)
	g.Stop()
}

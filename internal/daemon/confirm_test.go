package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/rundir"
	"tund/internal/stamps"
)

// within waits for something that a timer brings about.
func within(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (n *instance) warns(kind string) bool {
	return slices.ContainsFunc(n.status().Warnings, func(w control.Warning) bool { return w.Kind == kind })
}

func TestReload_goesBackUnlessItIsConfirmed(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	const file = "listen_port = %d\n[tun]\ndevice = \"DEVICE\"\naddress = [\"10.9.0.%d/24\"%s]\n" + onePeer
	first, second, third := fmt.Sprintf(file, 1234, 1, ""), fmt.Sprintf(file, 1235, 2, ""), fmt.Sprintf(file, 1236, 3, "")
	n := newInstance(t, first)
	n.start()
	defer n.stop()
	client := control.NewClient(rundir.Path(), "office")
	before := kernelState(t)
	if err := client.Confirm(t.Context()); err == nil {
		t.Error("confirmed what nobody has tried")
	}

	// Confirmed: it stays.
	if err := n.tries(second, time.Hour); err != nil {
		t.Fatal(err)
	}
	if !n.warns("trial") {
		t.Errorf("status does not say that the configuration is on trial: %+v", n.status().Warnings)
	}
	if err := client.Confirm(t.Context()); err != nil || n.warns("trial") {
		t.Errorf("confirm: %v, warnings %+v", err, n.status().Warnings)
	}
	if got := n.status().ListenPort; got != 1235 {
		t.Errorf("port %d after the confirmation", got)
	}
	if err := n.reloads(first); err != nil {
		t.Fatal(err)
	}

	// Not confirmed: the former one comes back, whatever was tried in between.
	if err := n.tries(second, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := n.tries(third, time.Second); err != nil {
		t.Fatal(err)
	}
	if got := n.status().ListenPort; got != 1236 {
		t.Errorf("port %d on trial", got)
	}
	within(t, time.Minute, "the former configuration comes back", func() bool { return n.status().ListenPort == 1234 })
	within(t, time.Minute, "the kernel has what it had", func() bool { return kernelState(t) == before })
	if s := n.status(); !strings.Contains(s.ConfigError, "not confirmed in time") || n.warns("trial") {
		t.Errorf("status says %q, %+v", s.ConfigError, s.Warnings)
	}
	if err := client.Confirm(t.Context()); err == nil {
		t.Error("confirmed what has gone")
	}

	// A reload without a trial ends it.
	if err := n.tries(second, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := n.reloads(second); err != nil {
		t.Fatal(err)
	}
	if n.warns("trial") || n.d.trial != nil {
		t.Error("a reload leaves the trial")
	}
	// A file with an error changes nothing about it.
	if err := n.tries(third, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := n.reloads("nonsense = 1\n" + third); err == nil || n.d.trial == nil {
		t.Errorf("a faulty file: %v, and the trial has ended: %t", err, n.d.trial == nil)
	}
	if err := n.reloads(first); err != nil {
		t.Fatal(err)
	}

	// Without a record on the disk, a restart could not end the trial: it does not begin.
	before = kernelState(t)
	blocked := filepath.Join(stamps.Dir("office"), "trial") // a directory stands in its place
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	err := n.tries(second, time.Hour)
	if err == nil || !strings.Contains(err.Error(), "no trial, and nothing has changed") || !strings.Contains(err.Error(), "without --confirm") {
		t.Errorf("nothing can be kept: %v", err)
	}
	if s := n.status(); s.ListenPort != 1234 || s.ConfigError != "" || n.warns("trial") || kernelState(t) != before {
		t.Errorf("refused, and yet: port %d, %q, %+v", s.ListenPort, s.ConfigError, s.Warnings)
	}
	if err := errors.Join(os.Remove(blocked), n.reloads(first)); err != nil {
		t.Fatal(err)
	}

	// On trial, what the kernel refuses takes all of it back at once.
	sh(t, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.%s.disable_ipv6=1", device())
	before = kernelState(t)
	refused := fmt.Sprintf(file, 1237, 4, `, "fd09::1/64"`)
	err = n.tries(refused, time.Hour)
	var e *control.Error
	if !errors.As(err, &e) || e.Code != control.CodeConfig || !strings.Contains(err.Error(), "the former configuration is in force again") ||
		!strings.Contains(err.Error(), "fd09::1/64") {
		t.Errorf("what the kernel refuses, on trial: %v", err)
	}
	if now := kernelState(t); now != before || n.status().ListenPort != 1234 {
		t.Errorf("port %d; the kernel has\n%swant\n%s", n.status().ListenPort, now, before)
	}
	// Not on trial, the rest stays.
	if err := n.reloads(refused); err == nil || n.status().ListenPort != 1237 {
		t.Errorf("what the kernel refuses: %v, port %d", err, n.status().ListenPort)
	}
}

// A port that is taken may be free a moment later: it is our own when a reload takes back the one
// before, and a lane still receives from the old socket.
func TestReload_waitsForAPortThatIsAboutToBeFree(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	const file = "listen_port = %d\n[tun]\ndevice = \"DEVICE\"\n" + onePeer
	n := newInstance(t, fmt.Sprintf(file, 1234))
	n.start()
	defer n.stop()
	old, err := net.ListenPacket("udp", ":1235")
	if err != nil {
		t.Fatal(err)
	}
	release := time.AfterFunc(100*time.Millisecond, func() { _ = old.Close() })
	defer release.Stop()
	if err := n.reloads(fmt.Sprintf(file, 1235)); err != nil {
		t.Errorf("the port was free after 100 ms: %v", err)
	}
	if got := n.status().ListenPort; got != 1235 {
		t.Errorf("port %d", got)
	}
}

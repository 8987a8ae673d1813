package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tund/internal/testnet"
)

// ordinary is a user with no rights but to configure the network: that of the service has no more.
const ordinary = 65534

// asOrdinary returns the command line as that user. What it is to read is given to it first.
func (g *gateway) asOrdinary(command ...string) []string {
	g.T.Helper()
	if _, err := exec.LookPath("setpriv"); err != nil {
		testnet.Lacks(g.T, "setpriv(1) is not installed (Debian: util-linux)")
	}
	paths, err := filepath.Glob(filepath.Join(g.Dir, "*"))
	if err != nil {
		g.T.Fatal(err)
	}
	for _, path := range append(paths, g.Dir) {
		if err := os.Chown(path, ordinary, ordinary); err != nil {
			g.T.Fatal(err)
		}
	}
	return append([]string{
		"setpriv", fmt.Sprintf("--reuid=%d", ordinary), fmt.Sprintf("--regid=%d", ordinary), "--clear-groups", "--no-new-privs",
		"--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin", "--bounding-set=-all,+net_admin",
	}, command...)
}

// TestProcess_asAnOrdinaryUserWithOneCapability does all that a gateway does with the one
// capability that the service has: start, reload with other keys, be killed, clean up, start again
// over what is left, stop.
func TestProcess_asAnOrdinaryUserWithOneCapability(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	before := g.NS.Snapshot()
	launch := func() {
		t.Helper()
		g.write()
		g.Process = g.NS.Start(t, g.asOrdinary(g.Command()...)...)
		g.Ready()
	}
	launch()
	during := g.NS.Snapshot()
	for _, want := range []string{"addr " + g.Name + " 10.9.0.1/24", "nft table inet tund-", "src_valid_mark 1", "lookup"} {
		if !strings.Contains(during, want) {
			t.Errorf("ready without %q:\n%s", want, during)
		}
	}
	for _, refusal := range []string{"more rights than it needs", "can read the memory of this process", "cannot set"} {
		if strings.Contains(g.Process.Output(), refusal) {
			t.Errorf("it said %q:\n%s", refusal, g.Process.Output())
		}
	}

	// The memory is nobody else's, not even that of the same user.
	mem := fmt.Sprintf("/proc/%d/mem", g.Process.Pid())
	if out, err := g.NS.Try(g.asOrdinary("head", "-c", "0", mem)...); err == nil || !strings.Contains(out, "ermission denied") {
		t.Errorf("another process of its user may open %s: %v %s", mem, err, out)
	}

	// What is reloaded is found: a file that replaced the old one, with a key in a file that is
	// new.
	g.File("new.psk", newGateway(t, nil, "").Key.Base64()+"\n")
	g.tunnel = append(g.tunnel, "fwmark = 4711")
	g.write()
	text, err := os.ReadFile(g.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	g.File("next", string(text)+"preshared_key_file = \"new.psk\"\n")
	if err := os.Rename(filepath.Join(g.Dir, "next"), g.ConfigPath()); err != nil {
		t.Fatal(err)
	}
	g.asOrdinary() // gives it the new files
	g.Process.Signal(syscall.SIGHUP)
	g.Says(startLimit, "reloaded")

	if err := g.Process.Stop(syscall.SIGKILL, startLimit); err == nil {
		t.Error("killed, and ended well")
	}
	g.NS.Run(t, g.asOrdinary("env", "TUND_RUN_DIR="+g.RunDir(), testnet.Tund(t), "--cleanup", g.Name)...)
	if after := g.NS.Snapshot(); after != before {
		t.Errorf("after --cleanup the kernel has\n%swant\n%s", after, before)
	}
	launch()
	g.Stop()
	if after := g.NS.Snapshot(); after != before {
		t.Errorf("after the stop the kernel has\n%swant\n%s", after, before)
	}
}

// TestProcess_keysItMayNotRead names the next step, which under the service is not obvious.
func TestProcess_keysItMayNotRead(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	g.write()
	command := g.asOrdinary(g.Command()...)
	if err := os.Chown(filepath.Join(g.Dir, "own.key"), 0, 0); err != nil {
		t.Fatal(err)
	}
	p := g.NS.Start(t, command...)
	if code := exitCode(p.Wait()); code != 78 || !strings.Contains(p.Output(), "chown tund") {
		t.Errorf("exit code %d, want 78 and what to do:\n%s", code, p.Output())
	}
}

// TestCleanup_byRootWhileAnotherUserRunsIt must see that it runs, and leave everything.
func TestCleanup_byRootWhileAnotherUserRunsIt(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	g.write()
	g.Process = g.NS.Start(t, g.asOrdinary(g.Command()...)...)
	g.Ready()
	during := g.NS.Snapshot()
	out, err := g.NS.Try("env", "TUND_RUN_DIR="+g.RunDir(), testnet.Tund(t), "--cleanup", g.Name)
	if err == nil || !strings.Contains(out, "already running as process") {
		t.Errorf("%v, want a refusal:\n%s", err, out)
	}
	if after := g.NS.Snapshot(); after != during {
		t.Errorf("it changed\n%sto\n%s", during, after)
	}
	g.Stop()
}

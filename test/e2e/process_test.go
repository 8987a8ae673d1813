package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// call runs the program to its end and returns its exit code and what it printed on both outputs.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(testnet.Tund(t), args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	limit := time.AfterFunc(startLimit, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	err := cmd.Run()
	return exitCode(err), out.String(), errs.String()
}

func TestProcess_commandLine(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, "office")
	g.addresses = []string{"10.9.0.1/24"}
	g.peers = []peerConfig{{name: "berlin", key: newGateway(t, nil, "").Key.Public(), allowed: []string{"10.20.0.0/16"}}}
	g.write()
	g.File("faulty.toml", "[tunnel]\nprivate_key = \"c2VjcmV0c2VjcmV0c2VjcmV0\"\nlisten_prot = 1\n[tun]\nmtu = \"big\"\n"+
		"[[peer]]\nname = \"x\"\npublic_key = \"short\"\nendpoint = \"nowhere\"\n")
	faulty := filepath.Join(g.Dir, "faulty.toml")
	for _, c := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr []string
	}{
		{"version", []string{"--version"}, 0, []string{"tund ", " go1."}, nil},
		{"help", []string{"--help"}, 0, []string{"usage:", "--check", "--cleanup"}, nil},
		{"nothing", nil, 2, nil, []string{"no configuration", "usage:"}},
		{"unknown flag", []string{"--frobnicate"}, 2, nil, []string{"frobnicate", "usage:"}},
		{"too much", []string{"-c", g.ConfigPath(), "more"}, 2, nil, []string{`"more"`}},
		{"log level", []string{"-c", g.ConfigPath(), "--log-level", "loud"}, 2, nil, []string{`"loud"`, "debug, info, warn or error"}},
		{"log format", []string{"-c", g.ConfigPath(), "--log-format", "xml"}, 2, nil, []string{`"xml"`, "console or json"}},
		{"name to clean up", []string{"--cleanup", "../etc"}, 2, nil, []string{"../etc"}},
		{"check", []string{"--check", "-c", g.ConfigPath()}, 0, []string{g.ConfigPath() + ": ok, 1 peer"}, nil},
		{"check -t", []string{"-t", "-c", g.ConfigPath()}, 0, []string{"ok"}, nil},
		{"no file", []string{"-c", g.ConfigPath() + ".gone"}, 78, nil, []string{filepath.Base(g.ConfigPath()) + ".gone"}},
		{"faulty", []string{"-c", faulty}, 78, nil, []string{":2:15:", ":3:1:", "listen_port", ":5:7:", `peer "x"`, ":8:14:", ":9:12:"}},
		{"check faulty", []string{"--check", "-c", faulty}, 78, nil, []string{":2:15:", ":9:12:", "missing port"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := call(t, c.args...)
			if code != c.code || !containsAll(stdout, c.stdout) || !containsAll(stderr, c.stderr) {
				t.Errorf("exit code %d, want %d\nstdout %q, want %q in it\nstderr %q, want %q in it",
					code, c.code, stdout, c.stdout, stderr, c.stderr)
			}
			if strings.Contains(stdout+stderr, "c2VjcmV0") {
				t.Errorf("a secret was printed:\n%s%s", stdout, stderr)
			}
		})
	}
}

func TestProcess_withoutPrivilegesEndsWith77(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("setpriv"); err != nil {
		testnet.Lacks(t, "setpriv(1) is not installed (Debian: util-linux)")
	}
	const nobody = 65534
	g := newGateway(t, testnet.New(t), "office")
	g.addresses = []string{"10.9.0.1/24"}
	g.write()
	for _, path := range []string{g.Dir, g.ConfigPath(), filepath.Join(g.Dir, "own.key")} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	p := g.NS.Start(t, append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, g.Command()...)...)
	if code := exitCode(p.Wait()); code != 77 || !strings.Contains(p.Output(), "CAP_NET_ADMIN") {
		t.Errorf("exit code %d, want 77 and the name of what is missing:\n%s", code, p.Output())
	}
	if left, _ := filepath.Glob(filepath.Join(g.RunDir(), "*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestProcess_endsWhenItsDeviceIsDeleted(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	before := g.NS.Snapshot()
	g.start()
	g.NS.Run(t, "ip", "link", "delete", g.Name)
	select {
	case <-g.Process.Done():
	case <-time.After(startLimit):
	}
	err := g.Process.Stop(syscall.SIGKILL, time.Second)
	if exitCode(err) != 1 || !strings.Contains(g.Process.Output(), "device "+g.Name) {
		t.Errorf("%v, want exit code 1 and the name of the device:\n%s", err, g.Process.Output())
	}
	// A full tunnel stays closed until the instance runs again: what it carried must not leave in
	// the clear meanwhile.
	if out, err := g.NS.Try("ip", "route", "get", "203.0.113.1"); err == nil {
		t.Errorf("after the device was deleted, traffic goes out in the clear: %s", out)
	}
	g.sweep(true)
	g.leavesNothing(before, "after the device was deleted")
}

func TestProcess_secondInstanceOfANameIsRefused(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	g.start()
	during := g.NS.Snapshot()
	second := g.NS.Start(t, g.Command()...)
	if code := exitCode(second.Wait()); code != 1 || !strings.Contains(second.Output(), fmt.Sprintf("already running as process %d", g.Process.Pid())) {
		t.Errorf("exit code %d, want 1 and the process that runs:\n%s", code, second.Output())
	}
	if after := g.NS.Snapshot(); after != during {
		t.Errorf("the second one changed\n%sto\n%s", during, after)
	}
	if s := g.Status(); s.PID != g.Process.Pid() {
		t.Errorf("status comes from process %d, want %d", s.PID, g.Process.Pid())
	}
	g.Stop()
}

func TestProcess_staleSocketIsReplaced(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.start()
	_ = p.a.Process.Stop(syscall.SIGKILL, startLimit)
	if _, err := os.Stat(filepath.Join(p.a.RunDir(), p.a.Name, "control.sock")); err != nil {
		t.Fatalf("a killed instance left no socket: %v", err)
	}
	p.a.Launch()
	p.a.Ready()
	if s := p.a.Status(); s.PID != p.a.Process.Pid() {
		t.Errorf("status comes from process %d, want %d", s.PID, p.a.Process.Pid())
	}
	p.a.Stop()
}

func TestProcess_logsJSON(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.a.write()
	p.a.Launch("--log-format", "json", "--log-level", "debug")
	testnet.Await(t, "ready", startLimit, func() bool { return strings.Contains(p.a.Process.Output(), `"ready"`) })
	p.a.Stop()
	for line := range strings.Lines(p.a.Process.Output()) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level == "" || entry.Msg == "" {
			t.Errorf("line %q: %v", line, err)
		}
	}
}

func TestReload_addsAndRemovesPeersWithoutALoss(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	third := testnet.New(t)
	testnet.Veth(t, p.a.NS, third, []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"})
	oslo := newGateway(t, third, "oslo")
	oslo.addresses = []string{"10.9.0.3/32", "fd09::3/128"}
	oslo.peers = []peerConfig{{name: "paris", key: p.a.Key.Public(), endpoint: endpoint("198.51.100.1"),
		allowed: []string{"10.9.0.1/32", "fd09::1/128"}}}
	p.start()
	oslo.start()
	pings := []*pinger{startPing(t, p.a.NS, p.endB().v4, 10*time.Millisecond), startPing(t, p.b.NS, p.endA().v6, 10*time.Millisecond)}
	for _, ping := range pings {
		ping.goesOn("at first", startLimit)
	}
	handshakes := p.a.Peer("berlin").Handshake.Completed // two when both began at once
	alone := p.a.peers
	for range 5 {
		p.a.peers = append(alone[:1:1], peerConfig{name: "oslo", key: oslo.Key.Public(), endpoint: endpoint("198.51.100.2"),
			allowed: []string{"10.9.0.3/32", "fd09::3/128"}, keepalive: 10})
		p.a.reload()
		ping(t, p.a.NS, "10.9.0.3", 3)
		p.a.peers = alone
		p.a.reload()
		if s := p.a.Status(); len(s.Peers) != 1 || strings.Contains(p.a.NS.Snapshot(), "10.9.0.3") {
			t.Errorf("%d peers after one of two was removed; kernel:\n%s", len(s.Peers), p.a.NS.Snapshot())
		}
	}
	// What is refused changes nothing.
	g := p.a
	text, err := os.ReadFile(g.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	g.File(g.Name+".toml", string(text)+"\n[[peer]]\npublic_key = \"short\"\n")
	g.Process.Signal(syscall.SIGHUP)
	g.Says(startLimit, "reload refused", "public_key")
	if s := g.Status(); s.ConfigError == "" || len(s.Peers) != 1 {
		t.Errorf("after a faulty file: error %q, %d peers, want an error and 1", s.ConfigError, len(s.Peers))
	}
	g.tunnel = []string{`offload = "off"`}
	g.write()
	g.Process.Signal(syscall.SIGHUP)
	g.Says(startLimit, "reload refused", "tunnel.offload", "restart")
	g.tunnel = nil
	g.reload()
	if s := g.Status(); s.ConfigError != "" {
		t.Errorf("after a good file: error %q", s.ConfigError)
	}
	for _, ping := range pings {
		ping.wantNoLoss()
	}
	if n := g.Peer("berlin").Handshake.Completed; n != handshakes {
		t.Errorf("%d handshakes with the peer that stayed, %d before", n, handshakes)
	}
	g.Stop()
}

func TestHost_withoutIPv6(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	for _, g := range []*gateway{p.a, p.b} {
		g.NS.Run(t, "sysctl", "-q", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
		g.addresses, g.peers[0].allowed = g.addresses[:1], g.peers[0].allowed[:1]
	}
	p.start()
	exercise(t, end{p.a.NS, "10.9.0.1", ""}, end{p.b.NS, "10.9.0.2", ""}, smallBytes)
	p.a.Stop()
	p.b.Stop()
}

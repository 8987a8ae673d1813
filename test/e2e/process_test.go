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
	g.peers = []peerConfig{{name: "berlin", key: newGateway(t, nil, "").key.Public(), allowed: []string{"10.20.0.0/16"}}}
	g.write()
	g.file("faulty.toml", "[tunnel]\nprivate_key = \"c2VjcmV0c2VjcmV0c2VjcmV0\"\nlisten_prot = 1\n[tun]\nmtu = \"big\"\n"+
		"[[peer]]\nname = \"x\"\npublic_key = \"short\"\nendpoint = \"nowhere\"\n")
	faulty := filepath.Join(g.dir, "faulty.toml")
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
		{"too much", []string{"-c", g.config(), "more"}, 2, nil, []string{`"more"`}},
		{"log level", []string{"-c", g.config(), "--log-level", "loud"}, 2, nil, []string{`"loud"`, "debug, info, warn or error"}},
		{"log format", []string{"-c", g.config(), "--log-format", "xml"}, 2, nil, []string{`"xml"`, "console or json"}},
		{"name to clean up", []string{"--cleanup", "../etc"}, 2, nil, []string{"../etc"}},
		{"check", []string{"--check", "-c", g.config()}, 0, []string{g.config() + ": ok, 1 peer"}, nil},
		{"check -t", []string{"-t", "-c", g.config()}, 0, []string{"ok"}, nil},
		{"no file", []string{"-c", g.config() + ".gone"}, 78, nil, []string{filepath.Base(g.config()) + ".gone"}},
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
	for _, path := range []string{g.dir, g.config(), filepath.Join(g.dir, "own.key")} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	p := g.ns.Start(t, append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, g.command()...)...)
	if code := exitCode(p.Wait()); code != 77 || !strings.Contains(p.Output(), "CAP_NET_ADMIN") {
		t.Errorf("exit code %d, want 77 and the name of what is missing:\n%s", code, p.Output())
	}
	if left, _ := filepath.Glob(filepath.Join(g.runDir(), "*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestProcess_endsWhenItsDeviceIsDeleted(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	before := g.ns.Snapshot()
	g.start()
	g.ns.Run(t, "ip", "link", "delete", g.name)
	select {
	case <-g.process.Done():
	case <-time.After(startLimit):
	}
	err := g.process.Stop(syscall.SIGKILL, time.Second)
	if exitCode(err) != 1 || !strings.Contains(g.process.Output(), "device "+g.name) {
		t.Errorf("%v, want exit code 1 and the name of the device:\n%s", err, g.process.Output())
	}
	// A full tunnel stays closed until the instance runs again: what it carried must not leave in the clear meanwhile.
	if out, err := g.ns.Try("ip", "route", "get", "203.0.113.1"); err == nil {
		t.Errorf("after the device was deleted, traffic goes out in the clear: %s", out)
	}
	g.sweep(true)
	g.leavesNothing(before, "after the device was deleted")
}

func TestProcess_secondInstanceOfANameIsRefused(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	g.start()
	during := g.ns.Snapshot()
	second := g.ns.Start(t, g.command()...)
	if code := exitCode(second.Wait()); code != 1 || !strings.Contains(second.Output(), fmt.Sprintf("already running as process %d", g.process.Pid())) {
		t.Errorf("exit code %d, want 1 and the process that runs:\n%s", code, second.Output())
	}
	if after := g.ns.Snapshot(); after != during {
		t.Errorf("the second one changed\n%sto\n%s", during, after)
	}
	if s := g.status(); s.PID != g.process.Pid() {
		t.Errorf("status comes from process %d, want %d", s.PID, g.process.Pid())
	}
	g.stop()
}

func TestProcess_staleSocketIsReplaced(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.start()
	_ = p.a.process.Stop(syscall.SIGKILL, startLimit)
	if _, err := os.Stat(filepath.Join(p.a.runDir(), p.a.name, "control.sock")); err != nil {
		t.Fatalf("a killed instance left no socket: %v", err)
	}
	p.a.launch()
	p.a.ready()
	if s := p.a.status(); s.PID != p.a.process.Pid() {
		t.Errorf("status comes from process %d, want %d", s.PID, p.a.process.Pid())
	}
	p.a.stop()
}

func TestProcess_logsJSON(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.a.write()
	p.a.launch("--log-format", "json", "--log-level", "debug")
	testnet.Await(t, "ready", startLimit, func() bool { return strings.Contains(p.a.process.Output(), `"ready"`) })
	p.a.stop()
	for line := range strings.Lines(p.a.process.Output()) {
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
	testnet.Veth(t, p.a.ns, third, []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"})
	oslo := newGateway(t, third, "oslo")
	oslo.addresses = []string{"10.9.0.3/32", "fd09::3/128"}
	oslo.peers = []peerConfig{{name: "paris", key: p.a.key.Public(), endpoint: endpoint("198.51.100.1"),
		allowed: []string{"10.9.0.1/32", "fd09::1/128"}}}
	p.start()
	oslo.start()
	pings := []*pinger{startPing(t, p.a.ns, p.endB().v4, 10*time.Millisecond), startPing(t, p.b.ns, p.endA().v6, 10*time.Millisecond)}
	for _, ping := range pings {
		ping.goesOn("at first", startLimit)
	}
	handshakes := p.a.peer("berlin").Handshake.Completed // two when both began at once
	alone := p.a.peers
	for range 5 {
		p.a.peers = append(alone[:1:1], peerConfig{name: "oslo", key: oslo.key.Public(), endpoint: endpoint("198.51.100.2"),
			allowed: []string{"10.9.0.3/32", "fd09::3/128"}, keepalive: 10})
		p.a.reload()
		ping(t, p.a.ns, "10.9.0.3", 3)
		p.a.peers = alone
		p.a.reload()
		if s := p.a.status(); len(s.Peers) != 1 || strings.Contains(p.a.ns.Snapshot(), "10.9.0.3") {
			t.Errorf("%d peers after one of two was removed; kernel:\n%s", len(s.Peers), p.a.ns.Snapshot())
		}
	}
	// What is refused changes nothing.
	g := p.a
	text, err := os.ReadFile(g.config())
	if err != nil {
		t.Fatal(err)
	}
	g.file(g.name+".toml", string(text)+"\n[[peer]]\npublic_key = \"short\"\n")
	g.process.Signal(syscall.SIGHUP)
	g.says(startLimit, "reload refused", "public_key")
	if s := g.status(); s.ConfigError == "" || len(s.Peers) != 1 {
		t.Errorf("after a faulty file: error %q, %d peers, want an error and 1", s.ConfigError, len(s.Peers))
	}
	g.tunnel = []string{`offload = "off"`}
	g.write()
	g.process.Signal(syscall.SIGHUP)
	g.says(startLimit, "reload refused", "tunnel.offload", "restart")
	g.tunnel = nil
	g.reload()
	if s := g.status(); s.ConfigError != "" {
		t.Errorf("after a good file: error %q", s.ConfigError)
	}
	for _, ping := range pings {
		ping.wantNoLoss()
	}
	if n := g.peer("berlin").Handshake.Completed; n != handshakes {
		t.Errorf("%d handshakes with the peer that stayed, %d before", n, handshakes)
	}
	g.stop()
}

func TestHost_withoutIPv6(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	for _, g := range []*gateway{p.a, p.b} {
		g.ns.Run(t, "sysctl", "-q", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
		g.addresses, g.peers[0].allowed = g.addresses[:1], g.peers[0].allowed[:1]
	}
	p.start()
	exercise(t, end{p.a.ns, "10.9.0.1", ""}, end{p.b.ns, "10.9.0.2", ""}, smallBytes)
	p.a.stop()
	p.b.stop()
}

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// fullTunnel makes an instance that wants everything that tund can change in a kernel: addresses,
// routes of both families, a default route with its rules, table and firewall, and a mark.
func fullTunnel(t testing.TB) *gateway {
	t.Helper()
	g, _ := fullTunnelAt(t)
	return g
}

// fullTunnelAt is fullTunnel, and the namespace at the other end of the uplink.
func fullTunnelAt(t testing.TB) (g *gateway, internet *testnet.NS) {
	t.Helper()
	ns, other := testnet.New(t), testnet.New(t)
	testnet.Veth(t, ns, other, []string{underlayA4 + "/24", underlayA6 + "/64"}, []string{underlayB4 + "/24", underlayB6 + "/64"})
	ns.Run(t, "ip", "route", "add", "default", "via", underlayB4)
	g = newGateway(t, ns, "full")
	g.addresses = []string{"10.9.0.1/24", "fd09::1/64"}
	g.peers = []peerConfig{
		{name: "exit", key: newGateway(t, ns, "").Key.Public(), endpoint: endpoint(underlayB4), allowed: []string{"0.0.0.0/0", "::/0"}},
		{name: "site", key: newGateway(t, ns, "").Key.Public(), endpoint: endpoint("[" + underlayB6 + "]"), keepalive: 25,
			allowed: []string{"10.20.0.0/16", "fd20::/48"}},
	}
	return g, other
}

// leavesNothing compares the namespace with what it was, and looks for files and processes.
func (g *gateway) leavesNothing(before, when string) {
	g.T.Helper()
	if after := g.NS.Snapshot(); after != before {
		g.T.Errorf("%s: the kernel has\n%swant\n%s", when, after, before)
	}
	left, err := filepath.Glob(filepath.Join(g.RunDir(), "*"))
	if err != nil || len(left) > 0 {
		g.T.Errorf("%s: files %v are left, %v", when, left, err)
	}
	if socket := "/var/run/wireguard/" + g.Name + ".sock"; exists(socket) {
		g.T.Errorf("%s: %s is left", when, socket)
	}
	// ip(8) itself may be among them.
	if pids := strings.Fields(g.NS.Run(g.T, "ip", "netns", "pids", g.NS.Name())); len(pids) > 1 {
		for _, pid := range pids {
			name, err := os.ReadFile("/proc/" + pid + "/comm")
			if err == nil && strings.TrimSpace(string(name)) != "ip" {
				g.T.Errorf("%s: process %s (%s) is left", when, pid, name)
			}
		}
	}
}

// exists reports whether there is a file at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestCycles_startAndStopLeaveNothing(t *testing.T) {
	t.Parallel()
	cycles(t, 10)
}

func TestSoakCycles_aHundredStartsAndStopsLeaveNothing(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	cycles(t, 100)
}

func cycles(t *testing.T, count int) {
	g := fullTunnel(t)
	before := g.NS.Snapshot()
	for i := range count {
		g.start()
		if i == 0 {
			during := g.NS.Snapshot()
			for _, want := range []string{"addr " + g.Name + " 10.9.0.1/24", "10.20.0.0/16 dev " + g.Name, "fd20::/48 dev " + g.Name, "nft table", "lookup"} {
				if !strings.Contains(during, want) {
					t.Errorf("running instance lacks %q:\n%s", want, during)
				}
			}
		}
		g.Stop()
		g.leavesNothing(before, fmt.Sprintf("after stop %d", i))
		if t.Failed() {
			return
		}
	}
}

// startMoments is how long after its start a process is stopped at most: a start takes about half
// of it.
const startMoments = 60 * time.Millisecond

// failure is one way to make a start fail.
type failure struct {
	name string
	// prepare makes the start fail, and returns what takes that back.
	prepare func(t *testing.T, g *gateway, random *rand.Rand) (undo func())
	// spoil makes it fail when the files have been written.
	spoil func(g *gateway)
	// args are put before the command line.
	args func(random *rand.Rand) []string
	// kill is sent at a random moment of the start.
	kill syscall.Signal
	// warns says that the instance runs all the same, with a warning: what others lack is no reason
	// to stop their tunnels.
	warns bool
}

// inNS runs a command and returns another as the undo. NAME is that of the instance.
func inNS(do, undo string) func(*testing.T, *gateway, *rand.Rand) func() {
	return func(t *testing.T, g *gateway, _ *rand.Rand) func() {
		words := func(line string) []string { return strings.Fields(strings.ReplaceAll(line, "NAME", g.Name)) }
		g.NS.Run(t, words(do)...)
		return func() { g.NS.Run(t, words(undo)...) }
	}
}

// withLine adds a line to the configuration of the tunnel or the device.
func withLine(lines func(*gateway) *[]string, line string) func(*testing.T, *gateway, *rand.Rand) func() {
	return func(_ *testing.T, g *gateway, _ *rand.Rand) func() {
		old := *lines(g)
		*lines(g) = append(old[:len(old):len(old)], line)
		return func() { *lines(g) = old }
	}
}

var failures = []failure{
	{name: "device name taken", prepare: inNS("ip link add NAME type bridge", "ip link delete NAME")},
	{name: "route taken", warns: true, prepare: inNS("ip route add 10.20.0.0/16 dev eth0", "ip route delete 10.20.0.0/16 dev eth0")},
	{name: "IPv6 off", warns: true, prepare: inNS("sysctl -q net.ipv6.conf.default.disable_ipv6=1", "sysctl -q net.ipv6.conf.default.disable_ipv6=0")},
	{name: "port taken", prepare: func(t *testing.T, g *gateway, _ *rand.Rand) func() {
		conn := packetConn(t, g.NS, fmt.Sprintf(":%d", listenPort))
		return func() { _ = conn.Close() }
	}},
	{name: "run directory is a file", prepare: func(t *testing.T, g *gateway, _ *rand.Rand) func() {
		_ = os.RemoveAll(g.RunDir())
		g.File("run", "")
		return func() { _ = os.Remove(g.RunDir()) }
	}},
	{name: "something else at the socket's path", prepare: func(t *testing.T, g *gateway, _ *rand.Rand) func() {
		path := filepath.Join(g.RunDir(), g.Name, "control.sock")
		if err := os.MkdirAll(path, 0o750); err != nil {
			t.Fatal(err)
		}
		return func() { _ = os.RemoveAll(g.RunDir()) }
	}},
	{name: "key file gone", spoil: func(g *gateway) { _ = os.Remove(filepath.Join(g.Dir, "own.key")) }},
	{name: "wrong value", prepare: withLine(func(g *gateway) *[]string { return &g.tun }, `mtu = "large"`)},
	{name: "MTU the device refuses", prepare: withLine(func(g *gateway) *[]string { return &g.tun }, `mtu = 1200`)},
	{name: "few files", args: func(random *rand.Rand) []string {
		return []string{"prlimit", fmt.Sprintf("--nofile=%d", 8+random.IntN(10))}
	}},
	{name: "SIGTERM", kill: syscall.SIGTERM},
	{name: "SIGINT", kill: syscall.SIGINT},
	{name: "SIGKILL", kill: syscall.SIGKILL},
}

// TestCycles_startsThatFailLeaveNothing makes 50 starts fail, each at its own step.
func TestCycles_startsThatFailLeaveNothing(t *testing.T) {
	t.Parallel()
	const starts, lanes = 52, 2
	seed := uint64(time.Now().UnixNano())
	for lane := range lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(lane)))
			g := fullTunnel(t)
			before := g.NS.Snapshot()
			for i := range starts / lanes {
				f := failures[i%len(failures)]
				failToStart(t, g, f, before, random)
				if t.Failed() {
					t.Fatalf("at start %d (%s), seed %d", i, f.name, seed)
				}
			}
		})
	}
}

// failToStart makes one start fail.
func failToStart(t *testing.T, g *gateway, f failure, before string, random *rand.Rand) {
	t.Helper()
	undo := func() {}
	if f.prepare != nil {
		undo = f.prepare(t, g, random)
	}
	g.write()
	if f.spoil != nil {
		f.spoil(g)
	}
	command := g.Command()
	if f.args != nil {
		command = append(f.args(random), command...)
	}
	p := g.NS.Start(t, command...)
	if f.kill != 0 {
		pause(time.Duration(random.Int64N(int64(startMoments))))
	} else {
		f.kill = syscall.SIGTERM // where the start succeeds after all
		testnet.Await(t, f.name+": the start ends", startLimit, func() bool {
			select {
			case <-p.Done():
				return true
			default:
				return (f.args != nil || f.warns) && strings.Contains(p.Output(), " ready ")
			}
		})
	}
	err := stopOrDump(p, f.kill)
	code := exitCode(err)
	switch {
	case f.kill == syscall.SIGKILL:
		g.sweep(random.IntN(2) == 0)
	case f.warns:
		if code != 0 {
			t.Errorf("%s: %v, want an instance that runs until it is stopped:\n%s", f.name, err, p.Output())
		}
	case f.args == nil && f.prepare == nil && f.spoil == nil:
		// A signal that comes before the process listens to signals ends it in the kernel's way.
		if code != 0 && !strings.Contains(fmt.Sprint(err), "signal: "+f.kill.String()) {
			t.Errorf("%s: %v, want a clean end:\n%s", f.name, err, p.Output())
		}
	case f.args == nil && code != 1 && code != 78:
		t.Errorf("%s: exit code %d, want 1 or 78:\n%s", f.name, code, p.Output())
	}
	undo()
	g.leavesNothing(before, f.name)
}

// stopOrDump stops a process as Process.Stop does, and makes it print its stacks when it does not
// end.
func stopOrDump(p *testnet.Process, s syscall.Signal) error {
	p.Signal(s)
	select {
	case <-p.Done():
		return p.Wait()
	case <-time.After(startLimit):
	}
	return fmt.Errorf("does not end: %w", p.Stop(syscall.SIGQUIT, startLimit))
}

// sweep takes away what a killed instance left: by the command for that, or by the next start and
// its stop.
func (g *gateway) sweep(byCommand bool) {
	g.T.Helper()
	if byCommand {
		g.NS.Run(g.T, "env", "TUND_RUN_DIR="+g.RunDir(), testnet.Tund(g.T), "--cleanup", g.Name)
		return
	}
	g.Launch()
	g.Ready()
	g.Stop()
}

func TestCycles_killedInstanceIsSweptEitherWay(t *testing.T) {
	t.Parallel()
	for _, byCommand := range []bool{true, false} {
		t.Run(fmt.Sprintf("by --cleanup=%v", byCommand), func(t *testing.T) {
			t.Parallel()
			g := fullTunnel(t)
			before := g.NS.Snapshot()
			g.start()
			if byCommand {
				during := g.NS.Snapshot()
				out, err := g.NS.Try("env", "TUND_RUN_DIR="+g.RunDir(), testnet.Tund(t), "--cleanup", g.Name)
				if exitCode(errors.Unwrap(err)) != 1 || !strings.Contains(out, "already running") {
					t.Errorf("--cleanup of a running instance: %v, want exit code 1 and a reason:\n%s", err, out)
				}
				if after := g.NS.Snapshot(); after != during {
					t.Errorf("--cleanup of a running instance took from it:\n%swas\n%s", after, during)
				}
			}
			_ = g.Process.Stop(syscall.SIGKILL, startLimit)
			if after := g.NS.Snapshot(); after == before {
				t.Error("a killed instance left nothing: this test shows nothing")
			}
			g.sweep(byCommand)
			g.leavesNothing(before, "after the sweep")
		})
	}
}

func TestCycles_oneProcessKeepsNoFileAndNoGoroutine(t *testing.T) {
	t.Parallel()
	g := fullTunnel(t)
	g.write()
	text, err := os.ReadFile(g.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	// One fails at the port, the other at the device.
	taken := packetConn(t, g.NS, ":51999").LocalAddr().(*net.UDPAddr).Port
	g.File("port.toml", strings.Replace(string(text), fmt.Sprint(listenPort), fmt.Sprint(taken), 1))
	g.NS.Run(t, "ip", "link", "add", "taken", "type", "bridge")
	g.File("device.toml", strings.Replace(string(text), "[tun]\n", "[tun]\ndevice = \"taken\"\n", 1))
	before := g.NS.Snapshot()
	request, err := json.Marshal(cyclesRequest{
		Good: g.ConfigPath(), Bad: []string{filepath.Join(g.Dir, "port.toml"), filepath.Join(g.Dir, "device.toml")}, Cycles: 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.File("cycles.json", string(request))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(g.Dir, "cycles.json")
	p := g.NS.Start(t, "env", "TUND_RUN_DIR="+g.RunDir(), cyclesEnv+"="+path, self)
	select {
	case <-p.Done():
	case <-time.After(5 * time.Minute):
	}
	if err := p.Stop(syscall.SIGQUIT, time.Second); err != nil {
		t.Fatalf("%v:\n%s", err, p.Output())
	}
	var r cyclesResult
	out, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil || r.Fault != "" {
		t.Fatalf("%v %s", err, r.Fault)
	}
	if len(r.FilesAfter) > len(r.FilesBefore) {
		t.Errorf("files before %q, after %q", r.FilesBefore, r.FilesAfter)
	}
	if r.GoroutinesAfter > r.GoroutinesBefore {
		t.Errorf("%d goroutines before, %d after:\n%s", r.GoroutinesBefore, r.GoroutinesAfter, r.Stacks)
	}
	g.leavesNothing(before, "after all")
}

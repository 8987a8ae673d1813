package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tund/config"
	"tund/internal/control"
	"tund/internal/rundir"
	"tund/internal/testnet"
	"tund/internal/unixsock/unixsocktest"
)

// envAlone is set in a process that runs one test in a network namespace of its own.
const envAlone = "TUND_DAEMON_TEST"

// alone runs the calling test once more, in a separate process inside a new network namespace, and
// returns true there. An instance opens sockets and devices on many goroutines, which all have to
// be in one namespace, and the leftovers that a test counts must not be those of others.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envAlone) == t.Name() {
		return true
	}
	testnet.Require(t)
	t.Parallel()
	dir := unixsocktest.Dir(t)
	// Seconds, unless others use the machine.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.timeout=230s")
	cmd.Env = append(os.Environ(), envAlone+"="+t.Name(), "TUND_RUN_DIR="+dir, "TUND_STATE_DIR="+dir+"/state")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// sh runs a shell command and returns what it prints; a failure ends the test.
func sh(t *testing.T, format string, args ...any) string {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// counters matches output that changes without any action of the instance.
var counters = regexp.MustCompile(`(?m)expires \S+|qlen \d+|state [A-Z]+|NO-CARRIER,|,LOWER_UP|^\d+: `)

// kernelState returns, as text, everything that a network daemon can change in this namespace.
func kernelState(t *testing.T) string {
	t.Helper()
	var text string
	// A new IPv6 address is tentative, and has no route, until the kernel finds time for it.
	for range 400 {
		text = sh(t, "ip -o link; ip -o address; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule; nft list ruleset; "+
			"cd /proc/sys/net; grep . ipv4/conf/all/src_valid_mark ipv4/ip_forward ipv4/conf/*/forwarding ipv6/conf/all/forwarding ipv6/conf/up*/accept_ra")
		if !strings.Contains(text, " tentative ") {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	lines := strings.SplitAfter(counters.ReplaceAllString(text, ""), "\n")
	slices.Sort(lines) // the kernel's order is that of making
	return strings.Join(lines, "")
}

// instance is a daemon that runs in this process, together with its configuration file.
type instance struct {
	t      *testing.T
	path   string
	logs   *observer.ObservedLogs
	reload chan struct{}
	cancel context.CancelFunc
	done   chan error
	d      *Daemon
}

// device is a name that no other process in this network uses for the files that WireGuard's tools
// use.
func device() string { return fmt.Sprintf("nd%d", os.Getpid()) }

// uplink makes a neighbouring network: 192.0.2.1 here, and a default route via 192.0.2.2 at the
// other end of a veth pair.
func uplink(t *testing.T) {
	t.Helper()
	sh(t, "ip link set lo up && sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.router_solicitations=0 && "+
		"ip link add up0 type veth peer name up1 && ip link set up0 addrgenmode none && ip link set up1 addrgenmode none && "+
		"ip link set up0 up && ip link set up1 up && ip address add 192.0.2.1/24 dev up0 && ip route add default via 192.0.2.2")
	for range 200 { // the state follows the carrier
		if strings.Count(sh(t, "ip link show up0; ip link show up1"), "state UP") == 2 {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatal("the wire has no carrier")
}

// newInstance writes a configuration, in which DEVICE stands for device().
func newInstance(t *testing.T, text string) *instance {
	t.Helper()
	n := &instance{t: t, path: filepath.Join(t.TempDir(), "office.toml")}
	n.write(text)
	return n
}

func (n *instance) write(text string) {
	n.t.Helper()
	text = strings.ReplaceAll("[tunnel]\nprivate_key = \""+ownKey+"\"\n"+text, "DEVICE", device())
	if err := os.WriteFile(n.path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// prepare makes a daemon without running it.
func (n *instance) prepare() context.Context {
	n.t.Helper()
	c, err := config.Load(n.path)
	if err != nil {
		n.t.Fatal(err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	ctx, cancel := context.WithCancel(context.Background())
	n.logs, n.reload, n.cancel, n.done = logs, make(chan struct{}, 1), cancel, make(chan error, 1)
	n.d = newDaemon(Options{Config: c, Log: zap.New(core), Level: zap.NewAtomicLevel(), Version: "test", Reload: n.reload})
	return ctx
}

// start runs the instance until it is ready.
func (n *instance) start() {
	n.t.Helper()
	ctx := n.prepare()
	go func() { n.done <- n.d.run(ctx, n.d.mode.steps) }()
	n.await("ready", func() bool {
		select {
		case err := <-n.done:
			n.t.Fatalf("start: %v", err)
		default:
		}
		return n.logs.FilterMessage("ready").Len() > 0
	})
}

// await is testnet.Await, and prints the log of the instance if it fails.
func (n *instance) await(what string, cond func() bool) {
	n.t.Helper()
	const limit = time.Minute // milliseconds on a machine that has nothing else to do
	for end := time.Now().Add(limit); !cond(); {
		if time.Now().After(end) {
			n.t.Fatalf("%s: not within %v; status %+v; log:\n%s", what, limit, n.status().Warnings, n.log())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (n *instance) log() string {
	var b strings.Builder
	for _, e := range n.logs.All() {
		fmt.Fprintln(&b, e.Level, e.Message, e.ContextMap())
	}
	return b.String()
}

// stop asks the instance to stop, and returns when it has stopped.
func (n *instance) stop() {
	n.t.Helper()
	n.cancel()
	if err := n.ended(); err != nil {
		n.t.Errorf("stop: %v\n%s", err, n.log())
	}
}

// ended waits for the end and returns why.
func (n *instance) ended() error {
	n.t.Helper()
	select {
	case err := <-n.done:
		return err
	case <-time.After(time.Minute):
		stacks := make([]byte, 1<<20)
		n.t.Fatalf("does not end; log:\n%s\n%s", n.log(), stacks[:runtime.Stack(stacks, true)])
		return nil
	}
}

func (n *instance) status() control.Instance {
	n.t.Helper()
	s, err := control.NewClient(rundir.Path(), "office").Status(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return s.Instances[0]
}

// warned returns the messages of the warnings of one kind.
func (n *instance) warned(kind string) (all []string) {
	n.t.Helper()
	for _, w := range n.status().Warnings {
		if w.Kind == kind {
			all = append(all, w.Message)
		}
	}
	return all
}

// reloads applies another configuration with a reload over the control socket.
func (n *instance) reloads(text string) error {
	n.t.Helper()
	return n.tries(text, 0)
}

// tries has the instance go back unless that is confirmed within the given time.
func (n *instance) tries(text string, confirm time.Duration) error {
	n.t.Helper()
	n.write(text)
	return control.NewClient(rundir.Path(), "office").Reload(n.t.Context(), confirm)
}

// traces counts the resources that a process holds.
type traces struct {
	files      []string
	goroutines int
	run        []string
}

// tracesNow counts them once they have settled: goroutines that end remain visible for a moment.
func tracesNow(t *testing.T, want *traces) traces {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		var now traces
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			target, err := os.Readlink("/proc/self/fd/" + e.Name())
			if err != nil || strings.HasPrefix(target, "/proc/") {
				continue // that of ReadDir
			}
			now.files = append(now.files, regexp.MustCompile(`\[\d+\]`).ReplaceAllString(target, ""))
		}
		slices.Sort(now.files)
		now.goroutines = runtime.NumGoroutine()
		now.run, _ = filepath.Glob(filepath.Join(rundir.Path(), "*"))
		if want == nil || now.within(*want) || time.Now().After(end) {
			return now
		}
		<-time.After(5 * time.Millisecond)
	}
}

// within reports whether a is what b was. Goroutines that b counts may have ended since.
func (a traces) within(b traces) bool {
	return slices.Equal(a.files, b.files) && a.goroutines <= b.goroutines && slices.Equal(a.run, b.run)
}

// leavesNothing compares the kernel and this process with their state before the test.
func leavesNothing(t *testing.T, when, kernel string, process traces) {
	t.Helper()
	if now := kernelState(t); now != kernel {
		t.Errorf("%s: the kernel has\n%swant\n%s", when, now, kernel)
	}
	if now := tracesNow(t, &process); !now.within(process) {
		stacks := make([]byte, 1<<20)
		t.Errorf("%s: this process has %+v, want %+v\n%s", when, now, process, stacks[:runtime.Stack(stacks, true)])
	}
}

// everything is a configuration that creates one object of each kind.
const everything = `
[tun]
device = "DEVICE"
address = ["10.9.0.1/24", "fd09::1/64"]
[tap]
device = "DEVICEt"
bridge = "br-n"
[[peer]]
public_key = "` + berlinKey + `"
endpoint = "192.0.2.2:51820"
allowed_ips = ["0.0.0.0/0", "::/0", "10.20.0.0/16"]
ethernet = true
`

var errInjected = errors.New("injected")

func runShell(command string) (string, error) {
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	return string(out), err
}

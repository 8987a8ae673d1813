// Package testnet provides network namespaces for tests: created under a unique name, entered from
// Go, filled with veth pairs and background processes, compared before and after, and always
// removed.
//
// It is for tests only, and it does not configure anything of tund's: a test that wants an address
// or a route from tund asks package route, and testnet shows what the kernel made of it. For the
// packages below test/, which run the programs, RunSuite and what follows it are the frame they
// share. It speaks to the kernel through ip(8) and nft(8) on purpose, so that package route, which
// uses netlink libraries, is checked by other people's code.
//
// An NS may be used from several goroutines, except Veth. Sources: network_namespaces(7),
// ip-netns(8).
package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// prefix starts the name of every namespace made here; the pid and a counter follow.
const prefix = "tund-"

// nameDir is where ip-netns(8) keeps named namespaces.
const nameDir = "/run/netns"

// commandLimit bounds one foreground command, so that a hanging tool fails one test instead of the
// run.
const commandLimit = 2 * time.Minute

// Require skips the test, with the reason, unless it runs as root with usable network namespaces,
// ip(8) and /dev/net/tun. With "root" in the comma-separated TUND_TEST_REQUIRE (CI) it fails
// instead, so that a skip cannot pass for a success.
func Require(t testing.TB) {
	t.Helper()
	reason := missing()
	if reason == "" {
		return
	}
	Lacks(t, "needs root and network namespaces: %s", reason)
}

// missing says in words what this host lacks for namespace tests, or "".
func missing() string {
	if os.Geteuid() != 0 {
		return "not running as root"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "ip(8) is not installed (Debian: iproute2)"
	}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	_ = tun.Close()
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread dies with the goroutine, in its odd namespace.
		runtime.LockOSThread()
		result <- unix.Unshare(unix.CLONE_NEWNET)
	}()
	if err := <-result; err != nil {
		return "no new network namespace: " + err.Error()
	}
	return ""
}

// NS is one network namespace, removed at the end of the test that made it.
type NS struct {
	t    testing.TB
	name string
	veth int // pairs ended here so far, for their names

	handle *os.File // keeps the namespace alive and is what Do enters
}

// New makes a namespace named "tund-<pid>-<n>" with its loopback up and duplicate address detection
// off (so that an IPv6 address is usable at once). It is removed by t.Cleanup, also when the test
// fails. New calls Require first.
func New(t testing.TB) *NS {
	t.Helper()
	Require(t)
	sweep()
	ns := &NS{t: t}
	for n := 1; ; n++ {
		ns.name = fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), n)
		out, err := exec.Command("ip", "netns", "add", ns.name).CombinedOutput()
		if err == nil {
			break
		}
		// Another test of this process may have the name, or may have had it just now.
		if !strings.Contains(string(out), "File exists") || n > 1000 {
			t.Fatalf("ip netns add %s: %v: %s", ns.name, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", ns.name).CombinedOutput(); err != nil {
			t.Errorf("ip netns delete %s: %v: %s", ns.name, err, out)
		}
	})
	handle, err := os.Open(ns.path())
	if err != nil {
		t.Fatal(err)
	}
	ns.handle = handle
	t.Cleanup(func() { _ = handle.Close() })
	ns.Do(func() {
		for _, scope := range []string{"all", "default"} {
			// Absent on a host without IPv6, which is fine.
			_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/accept_dad", []byte("0"), 0)
		}
	})
	ns.Run(t, "ip", "link", "set", "lo", "up")
	return ns
}

// sweep removes the namespaces of test processes that are gone (killed, or panicked before
// Cleanup).
func sweep() {
	entries, err := os.ReadDir(nameDir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		rest, ours := strings.CutPrefix(entry.Name(), prefix)
		owner, _, found := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(owner)
		if !ours || !found || err != nil || pid <= 0 {
			continue
		}
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = exec.Command("ip", "netns", "delete", entry.Name()).Run()
		}
	}
}

// Name returns the namespace's name as `ip netns` shows it.
func (ns *NS) Name() string { return ns.name }

func (ns *NS) path() string { return filepath.Join(nameDir, ns.name) }

// Do runs f inside the namespace, on the calling goroutine, locked to its thread, so f may use
// t.Fatal. What f opens (sockets, devices) stays in the namespace after Do; goroutines that f
// starts do not run in it. When the thread cannot return to its old namespace the test ends and the
// thread is never reused.
func (ns *NS) Do(f func()) {
	ns.t.Helper()
	runtime.LockOSThread()
	back, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		runtime.UnlockOSThread()
		ns.t.Fatalf("enter %s: %v", ns.name, err)
	}
	if err := unix.Setns(int(ns.handle.Fd()), unix.CLONE_NEWNET); err != nil {
		_ = back.Close()
		runtime.UnlockOSThread()
		ns.t.Fatalf("enter %s: %v", ns.name, err)
	}
	defer func() {
		err := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET)
		_ = back.Close()
		if err != nil {
			// Still locked: the runtime ends the thread together with this goroutine.
			ns.t.Fatalf("leave %s: %v", ns.name, err)
		}
		runtime.UnlockOSThread()
	}()
	f()
}

// Try runs a command inside the namespace (with its own /sys, as ip-netns(8) arranges) and returns
// what it printed, standard error included.
func (ns *NS) Try(command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", ns.argv(command)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", ns.name, strings.Join(command, " "), err)
	}
	return string(out), err
}

// Run runs a command as Try does and ends the test when it fails.
func (ns *NS) Run(t testing.TB, command ...string) string {
	t.Helper()
	out, err := ns.Try(command...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (ns *NS) argv(command []string) []string {
	return append([]string{"netns", "exec", ns.name}, command...)
}

// Process is a background command inside a namespace.
type Process struct {
	cmd  *exec.Cmd
	out  lockedBuffer
	done chan struct{} // closed when the process has ended and err is set
	err  error
}

// Start runs a command inside the namespace in the background. It is killed at the end of the test
// if it still runs; its output is logged when the test failed.
func (ns *NS) Start(t testing.TB, command ...string) *Process {
	t.Helper()
	return ns.StartWith(t, nil, command...)
}

// StartWith is Start for a command that gets open files, as descriptors 3 and so on.
func (ns *NS) StartWith(t testing.TB, files []*os.File, command ...string) *Process {
	t.Helper()
	p := &Process{cmd: exec.Command("ip", ns.argv(command)...), done: make(chan struct{})}
	p.cmd.ExtraFiles = files
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.WaitDelay = time.Second // a grandchild holding the pipe must not hold the test
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s in %s: %v", strings.Join(command, " "), ns.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s: %s:\n%s", ns.name, strings.Join(command, " "), p.Output())
		}
	})
	return p
}

// Pid returns the process id: ip-netns(8) executes the command in its own place, so it is the
// command's.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output returns what the process has printed until now.
func (p *Process) Output() string { return p.out.String() }

// Signal sends a signal; an ended process is not an error.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the process to end and returns its error as exec.Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Stop sends s and waits for the end; after limit it kills the process and reports that as an
// error.
func (p *Process) Stop(s os.Signal, limit time.Duration) error {
	p.Signal(s)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("still running %v after %v: killed", limit, s)
	}
}

// Await polls cond every 5 ms until it holds, and ends the test when it does not within limit.
func Await(t testing.TB, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-timer.C:
			if !cond() {
				t.Fatalf("%s: not within %v", what, limit)
			}
			return
		}
	}
}

// lockedBuffer is a bytes.Buffer that one goroutine fills while others look.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Package instance runs one tund with a configuration file in a network namespace, for the tests
// that run the programs: starts it and waits until it is ready, asks it, reads its log, stops it,
// and fails the test when it said something that no process may say. What the file says is the
// business of the packages that use it.
//
// An Instance is used by the goroutine of its test.
package instance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/testnet"
)

// Limit bounds a start, a stop and a first session. Each takes milliseconds; a machine that is busy
// with other tests is slower.
const Limit = 20 * time.Second

// Instance is one tund: its namespace, its files and its process.
type Instance struct {
	T    testing.TB
	NS   *testnet.NS
	Name string // of the configuration file, without .toml
	Dir  string // holds the configuration, the key and the run directory
	Key  keys.PrivateKey
	Env  []string // more of the environment, NAME=VALUE
	Wrap []string // a command that runs the daemon's, such as unshare
	// Files are descriptors 3 and so on of the process.
	Files []*os.File

	Process *testnet.Process // nil until Launch
}

// New makes an instance with a new key, which has no configuration and does not run. It needs
// testnet.RunSuite.
func New(t testing.TB, ns *testnet.NS, name string) Instance {
	t.Helper()
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	return Instance{T: t, NS: ns, Name: name, Dir: testnet.Scratch(t), Key: key}
}

// ConfigPath returns where the configuration is.
func (i *Instance) ConfigPath() string { return filepath.Join(i.Dir, i.Name+".toml") }

// RunDir returns the directory below which the control socket is.
func (i *Instance) RunDir() string { return filepath.Join(i.Dir, "run") }

// File writes a file beside the configuration, for its owner only.
func (i *Instance) File(name, text string) {
	i.T.Helper()
	if err := os.WriteFile(filepath.Join(i.Dir, name), []byte(text), 0o600); err != nil {
		i.T.Fatal(err)
	}
}

// WriteConfig writes the configuration, and the private key into own.key beside it.
func (i *Instance) WriteConfig(text string) {
	i.T.Helper()
	i.File(i.Name+".toml", text)
	i.File("own.key", i.Key.Base64()+"\n")
}

// Command returns the command line that starts the daemon, with further arguments.
func (i *Instance) Command(args ...string) []string {
	command := append([]string{}, i.Wrap...)
	command = append(command, "env", "TUND_RUN_DIR="+i.RunDir(), "TUND_STATE_DIR="+filepath.Join(i.Dir, "state"))
	command = append(command, i.Env...)
	return append(append(command, testnet.Tund(i.T), "-c", i.ConfigPath()), args...)
}

// Launch starts the process and does not wait for it to be ready. At the end of the test, what it
// knows is printed when the test has failed, and what it said is looked through.
func (i *Instance) Launch(args ...string) *testnet.Process {
	i.T.Helper()
	p := i.NS.StartWith(i.T, i.Files, i.Command(args...)...)
	i.Process = p
	i.T.Cleanup(func() {
		i.Confess()
		i.Healthy(p)
	})
	return p
}

// Ready waits until the process is ready.
func (i *Instance) Ready() {
	i.T.Helper()
	testnet.Await(i.T, i.Name+" becomes ready", Limit, func() bool {
		select {
		case <-i.Process.Done():
			i.T.Fatalf("%s ended instead of starting:\n%s", i.Name, i.Process.Output())
		default:
		}
		return strings.Contains(i.Process.Output(), " ready ")
	})
}

// Confess prints the status of a running instance when its test has failed.
func (i *Instance) Confess() {
	if !i.T.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), control.AnswerTimeout)
	defer cancel()
	s, err := i.Client().Status(ctx)
	if err != nil {
		return // stopped, and this was printed then
	}
	if text, err := json.Marshal(s); err == nil {
		i.T.Logf("status of %s: %s", i.Name, text)
	}
}

// Healthy fails the test when a process has said something that no process may ever say.
func (i *Instance) Healthy(p *testnet.Process) {
	i.T.Helper()
	for _, word := range []string{"DATA RACE", "bug: panic", "panic:", "fatal error:"} {
		if strings.Contains(p.Output(), word) {
			i.T.Errorf("%s said %q:\n%s", i.Name, word, p.Output())
		}
	}
}

// Stop stops the process as a service manager does and expects a clean end.
func (i *Instance) Stop() {
	i.T.Helper()
	i.Confess()
	if err := i.Process.Stop(syscall.SIGTERM, Limit); err != nil {
		i.T.Errorf("%s stops with %v, want a clean end:\n%s", i.Name, err, i.Process.Output())
	}
}

// Kill ends the process without giving it a chance to say goodbye.
func (i *Instance) Kill() {
	i.T.Helper()
	i.Process.Signal(syscall.SIGKILL)
	<-i.Process.Done()
}

// Client returns a client of the control socket.
func (i *Instance) Client() *control.Client { return control.NewClient(i.RunDir(), i.Name) }

// Reload asks over the control socket for the configuration to be read again.
func (i *Instance) Reload() error {
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	return i.Client().Reload(ctx, 0)
}

// Status asks the instance.
func (i *Instance) Status() control.Instance {
	i.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	s, err := i.Client().Status(ctx)
	if err != nil {
		i.T.Fatalf("status of %s: %v", i.Name, err)
	}
	return s.Instances[0]
}

// Peer returns the status of one peer.
func (i *Instance) Peer(name string) control.Peer {
	i.T.Helper()
	for _, p := range i.Status().Peers {
		if p.Name == name {
			return p
		}
	}
	i.T.Fatalf("%s has no peer %s", i.Name, name)
	return control.Peer{}
}

// Says waits until the log holds all of words in one line.
func (i *Instance) Says(limit time.Duration, words ...string) {
	i.T.Helper()
	testnet.Await(i.T, fmt.Sprintf("%s says %q", i.Name, words), limit, func() bool { return i.Lines(words...) > 0 })
}

// Lines counts the lines of the log that hold all of words.
func (i *Instance) Lines(words ...string) int {
	n := 0
	for line := range strings.Lines(i.Process.Output()) {
		n++
		for _, w := range words {
			if !strings.Contains(line, w) {
				n--
				break
			}
		}
	}
	return n
}

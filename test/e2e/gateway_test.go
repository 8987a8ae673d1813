package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/testnet"
)

// Addresses of the underlay: gateway A is .1, B is .2, and so on.
const (
	underlayA4, underlayB4 = "192.0.2.1", "192.0.2.2"
	underlayA6, underlayB6 = "2001:db8::1", "2001:db8::2"
	listenPort             = 51820
)

// startLimit bounds a start and a stop. Either takes milliseconds; a machine that is busy with other tests is slower.
const startLimit = 20 * time.Second

// peerConfig is one [[peer]].
type peerConfig struct {
	name      string
	key       keys.PublicKey
	psk       keys.PresharedKey // zero: none
	endpoint  string            // "": none
	others    []string          // more endpoints, to be tried after that one
	allowed   []string
	keepalive int
}

// gateway is one instance of tund: its namespace, its files and its process.
type gateway struct {
	t    testing.TB
	ns   *testnet.NS
	name string // of the instance and of its device
	dir  string // holds the configuration, the key and the run directory

	key       keys.PrivateKey
	port      int
	tunnel    []string // more lines of [tunnel]
	addresses []string
	tun       []string // more lines of [tun]
	peers     []peerConfig
	env       []string // more of the environment, NAME=VALUE

	process *testnet.Process
}

// instances numbers those of this run. Their devices have sockets in /var/run/wireguard, which all namespaces share.
var instances counter

// newGateway makes an instance with a new key that is not configured further and does not run. Its name, and that of
// its device, begins with word and is no other's on this machine.
func newGateway(t testing.TB, ns *testnet.NS, word string) *gateway {
	t.Helper()
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	instances.add(1)
	name := word + strconv.FormatInt(int64(os.Getpid())<<10|instances.get()&1023, 36)
	return &gateway{t: t, ns: ns, name: name, dir: testnet.Scratch(t), key: key, port: listenPort}
}

func (g *gateway) config() string { return filepath.Join(g.dir, g.name+".toml") }
func (g *gateway) runDir() string { return filepath.Join(g.dir, "run") }

// write writes the configuration and the files it names.
func (g *gateway) write() {
	g.t.Helper()
	var s strings.Builder
	fmt.Fprintf(&s, "[tunnel]\nprivate_key_file = \"own.key\"\nlisten_port = %d\n", g.port)
	for _, line := range g.tunnel {
		fmt.Fprintln(&s, line)
	}
	fmt.Fprintf(&s, "[tun]\naddress = %s\n", list(g.addresses))
	for _, line := range g.tun {
		fmt.Fprintln(&s, line)
	}
	for _, p := range g.peers {
		fmt.Fprintf(&s, "[[peer]]\nname = %q\npublic_key = %q\nallowed_ips = %s\nkeepalive = %d\n",
			p.name, p.key.String(), list(p.allowed), p.keepalive)
		if p.endpoint != "" {
			fmt.Fprintf(&s, "endpoint = %s\n", list(append([]string{p.endpoint}, p.others...)))
		}
		if !p.psk.IsZero() {
			fmt.Fprintf(&s, "preshared_key = %q\n", p.psk.Base64())
		}
	}
	g.file(g.name+".toml", s.String())
	g.file("own.key", g.key.Base64()+"\n")
}

// file writes one file of the instance.
func (g *gateway) file(name, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// list formats a TOML list of strings.
func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// command is the command line that starts the instance.
func (g *gateway) command(args ...string) []string {
	env := append([]string{"env", "TUND_RUN_DIR=" + g.runDir()}, g.env...)
	return append(append(env, testnet.Tund(g.t), "-c", g.config()), args...)
}

// launch starts the process and does not wait for it to be ready.
func (g *gateway) launch(args ...string) *testnet.Process {
	g.t.Helper()
	p := g.ns.Start(g.t, g.command(args...)...)
	g.process = p
	g.t.Cleanup(func() {
		g.confess()
		g.healthy(p)
	})
	return p
}

// confess prints what a running instance knows when its test has failed.
func (g *gateway) confess() {
	if !g.t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), control.AnswerTimeout)
	defer cancel()
	s, err := control.NewClient(g.runDir(), g.name).Status(ctx)
	if err != nil {
		return // stopped, and this was printed then
	}
	text, err := json.Marshal(s)
	if err == nil {
		g.t.Logf("status of %s: %s", g.name, text)
	}
}

// healthy fails the test when a process has said something that no process may ever say.
func (g *gateway) healthy(p *testnet.Process) {
	g.t.Helper()
	for _, word := range []string{"DATA RACE", "bug: panic", "panic:", "fatal error:"} {
		if strings.Contains(p.Output(), word) {
			g.t.Errorf("%s said %q:\n%s", g.name, word, p.Output())
		}
	}
}

// start writes the configuration, starts the process and waits until it is ready.
func (g *gateway) start() {
	g.t.Helper()
	g.write()
	g.launch()
	g.ready()
}

// ready waits until the process is ready.
func (g *gateway) ready() {
	g.t.Helper()
	testnet.Await(g.t, g.name+" becomes ready", startLimit, func() bool {
		select {
		case <-g.process.Done():
			g.t.Fatalf("%s ended instead of starting:\n%s", g.name, g.process.Output())
		default:
		}
		return strings.Contains(g.process.Output(), " ready ")
	})
}

// stop stops the process as a service manager does and expects a clean end.
func (g *gateway) stop() {
	g.t.Helper()
	g.confess()
	if err := g.process.Stop(syscall.SIGTERM, startLimit); err != nil {
		g.t.Errorf("%s stops with %v, want a clean end:\n%s", g.name, err, g.process.Output())
	}
}

// reload writes the configuration again, asks for a reload as a service manager does, and waits until it is done.
func (g *gateway) reload() {
	g.t.Helper()
	g.write()
	before := strings.Count(g.process.Output(), " reloaded ")
	g.process.Signal(syscall.SIGHUP)
	testnet.Await(g.t, g.name+" reloads", startLimit, func() bool {
		return strings.Count(g.process.Output(), " reloaded ") > before
	})
}

// status asks the instance.
func (g *gateway) status() control.Instance {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), control.AnswerTimeout)
	defer cancel()
	s, err := control.NewClient(g.runDir(), g.name).Status(ctx)
	if err != nil {
		g.t.Fatalf("status of %s: %v", g.name, err)
	}
	return s.Instances[0]
}

// peer returns the status of one peer.
func (g *gateway) peer(name string) control.Peer {
	g.t.Helper()
	for _, p := range g.status().Peers {
		if p.Name == name {
			return p
		}
	}
	g.t.Fatalf("%s has no peer %s", g.name, name)
	return control.Peer{}
}

// says waits until the log holds all of words in one line.
func (g *gateway) says(limit time.Duration, words ...string) {
	g.t.Helper()
	testnet.Await(g.t, fmt.Sprintf("%s says %q", g.name, words), limit, func() bool {
		for line := range strings.Lines(g.process.Output()) {
			if containsAll(line, words) {
				return true
			}
		}
		return false
	})
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// countLines counts the lines of text that hold a word.
func countLines(text, word string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			n++
		}
	}
	return n
}

// exitCode takes the code out of the error of a process that has ended.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// psk makes a preshared key.
func psk(t testing.TB) keys.PresharedKey {
	t.Helper()
	key, err := keys.GeneratePreshared()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pair is two instances that are each other's only peer, on one cable.
type pair struct{ a, b *gateway }

// newPair makes two namespaces on one cable with both families, and an instance in each, not started. Over IPv6 the
// endpoints are IPv6 addresses.
func newPair(t testing.TB, ipv6 bool) *pair {
	t.Helper()
	nsA, nsB := testnet.New(t), testnet.New(t)
	testnet.Veth(t, nsA, nsB, []string{underlayA4 + "/24", underlayA6 + "/64"}, []string{underlayB4 + "/24", underlayB6 + "/64"})
	p := &pair{newGateway(t, nsA, "paris"), newGateway(t, nsB, "berlin")}
	toA, toB := underlayA4, underlayB4
	if ipv6 {
		toA, toB = "["+underlayA6+"]", "["+underlayB6+"]"
	}
	p.a.addresses = []string{"10.9.0.1/24", "fd09::1/64"}
	p.b.addresses = []string{"10.9.0.2/24", "fd09::2/64"}
	p.a.peers = []peerConfig{{name: "berlin", key: p.b.key.Public(), endpoint: endpoint(toB),
		allowed: []string{"10.9.0.2/32", "fd09::2/128"}}}
	p.b.peers = []peerConfig{{name: "paris", key: p.a.key.Public(), endpoint: endpoint(toA),
		allowed: []string{"10.9.0.1/32", "fd09::1/128"}}}
	return p
}

func endpoint(host string) string { return fmt.Sprintf("%s:%d", host, listenPort) }

// start starts both.
func (p *pair) start() {
	p.a.start()
	p.b.start()
}

// endA and endB are where traffic through the tunnel begins and ends.
func (p *pair) endA() end { return end{p.a.ns, "10.9.0.1", "fd09::1"} }
func (p *pair) endB() end { return end{p.b.ns, "10.9.0.2", "fd09::2"} }

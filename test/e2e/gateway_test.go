package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tund/crypto/keys"
	"tund/internal/testnet"
	"tund/test/instance"
)

// Addresses of the underlay: gateway A is .1, B is .2, and so on.
const (
	underlayA4, underlayB4 = "192.0.2.1", "192.0.2.2"
	underlayA6, underlayB6 = "2001:db8::1", "2001:db8::2"
	listenPort             = 51820
)

// startLimit bounds a start and a stop.
const startLimit = instance.Limit

// peerConfig is one [[peer]].
type peerConfig struct {
	name      string
	key       keys.PublicKey
	psk       keys.PresharedKey // zero: none
	endpoint  string            // "": none
	others    []string          // more endpoints, to be tried after that one
	allowed   []string
	keepalive int
	more      []string // more lines of [[peer]]
}

// gateway is one instance of tund: its namespace, its files and its process.
type gateway struct {
	instance.Instance // its name is that of its device too

	port      int
	tunnel    []string // more lines of [tunnel]
	addresses []string
	tun       []string // more lines of [tun]
	peers     []peerConfig
}

// instances numbers those of this run. Their devices have sockets in /var/run/wireguard, which all
// namespaces share.
var instances counter

// newGateway makes an instance with a new key that is not configured further and does not run. Its
// name, and that of its device, begins with word and is no other's on this machine.
func newGateway(t testing.TB, ns *testnet.NS, word string) *gateway {
	t.Helper()
	instances.add(1)
	name := word + strconv.FormatInt(int64(os.Getpid())<<10|instances.get()&1023, 36)
	return &gateway{Instance: instance.New(t, ns, name), port: listenPort}
}

// write writes the configuration and the files it names.
func (g *gateway) write() {
	g.T.Helper()
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
		for _, line := range p.more {
			fmt.Fprintln(&s, line)
		}
	}
	g.WriteConfig(s.String())
}

// list formats a TOML list of strings.
func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// start writes the configuration, starts the process and waits until it is ready.
func (g *gateway) start() {
	g.T.Helper()
	g.write()
	g.Launch()
	g.Ready()
}

// reload writes the configuration again, asks for a reload as a service manager does, and waits
// until it is done.
func (g *gateway) reload() {
	g.T.Helper()
	g.write()
	before := strings.Count(g.Process.Output(), " reloaded ")
	g.Process.Signal(syscall.SIGHUP)
	testnet.Await(g.T, g.Name+" reloads", startLimit, func() bool {
		return strings.Count(g.Process.Output(), " reloaded ") > before
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

// newPair makes two namespaces on one cable with both families, and an instance in each, not
// started. Over IPv6 the endpoints are IPv6 addresses.
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
	p.a.peers = []peerConfig{{name: "berlin", key: p.b.Key.Public(), endpoint: endpoint(toB),
		allowed: []string{"10.9.0.2/32", "fd09::2/128"}}}
	p.b.peers = []peerConfig{{name: "paris", key: p.a.Key.Public(), endpoint: endpoint(toA),
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
func (p *pair) endA() end { return end{p.a.NS, "10.9.0.1", "fd09::1"} }
func (p *pair) endB() end { return end{p.b.NS, "10.9.0.2", "fd09::2"} }

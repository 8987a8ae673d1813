package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/testnet"
)

// The wireguard-go that the tests build, and where it is kept for the next run and for the
// benchmark.
const (
	wireguardGoModule  = "golang.zx2c4.com/wireguard"
	wireguardGoVersion = "v0.0.0-20260522210424-ecfc5a8d5446"
	wireguardGoStore   = "../../dist/bench-bin"
)

// installLimit bounds the download and the build of wireguard-go.
const installLimit = 3 * time.Minute

// implementation is one program that speaks WireGuard.
type implementation struct {
	name string
	path func(t testing.TB) string
}

// implementations are the other programs that tund is tested with.
var implementations = []implementation{{"Debian", wireguardGoOfDebian}, {"master", wireguardGoMaster}}

func wireguardGoOfDebian(t testing.TB) string {
	t.Helper()
	testnet.Require(t)
	path, err := exec.LookPath("wireguard-go")
	if err != nil {
		testnet.Lacks(t, "wireguard-go is not installed (Debian: wireguard-go)")
	}
	return path
}

// wireguardGoMaster returns the path of a current wireguard-go, built when there is none yet.
func wireguardGoMaster(t testing.TB) string {
	t.Helper()
	testnet.Require(t)
	b := &bench.wireguardGo
	b.once.Do(func() { b.path, b.err = installWireguardGo() })
	if b.err != nil {
		testnet.Lacks(t, "%v", b.err)
	}
	return b.path
}

func installWireguardGo() (string, error) {
	dir, err := filepath.Abs(filepath.Join(wireguardGoStore, strings.ReplaceAll(wireguardGoModule, "/", "_")+"@"+wireguardGoVersion))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "wireguard")
	if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
		return path, nil
	}
	// Built aside and moved: the benchmark may be looking for it at the same time.
	install := exec.Command("go", "install", wireguardGoModule+"@"+wireguardGoVersion)
	install.Env = append(os.Environ(), "GOBIN="+filepath.Join(testnet.Dir(), "bin"), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	install.WaitDelay = time.Second
	limit := time.AfterFunc(installLimit, func() { _ = install.Process.Kill() })
	defer limit.Stop()
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s@%s: %w: %s", wireguardGoModule, wireguardGoVersion, err, out)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(testnet.Dir(), "bin", "wireguard"))
	if err != nil {
		return "", err
	}
	aside := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(aside, text, 0o755); err != nil {
		return "", err
	}
	return path, os.Rename(aside, path)
}

// wireguardGo is one running wireguard-go with one peer.
type wireguardGo struct {
	t       testing.TB
	ns      *testnet.NS
	program string
	device  string // unique on the machine: the control sockets of all namespaces share a directory
	dir     string

	key       keys.PrivateKey
	port      int
	addresses []string
	peer      peerConfig

	process *testnet.Process
}

// devices numbers the devices of this run.
var devices counter

// replace puts a wireguard-go in place of one instance of tund: with its key, its addresses and its
// peer.
func replace(t testing.TB, g *gateway, program string) *wireguardGo {
	t.Helper()
	if _, err := exec.LookPath("wg"); err != nil {
		testnet.Lacks(t, "wg(8) is not installed (Debian: wireguard-tools)")
	}
	devices.add(1)
	return &wireguardGo{
		t: t, ns: g.NS, program: program, device: fmt.Sprintf("te%dx%d", os.Getpid(), devices.get()), dir: testnet.Scratch(t),
		key: g.Key, port: g.port, addresses: g.addresses, peer: g.peers[0],
	}
}

// start starts the process, configures it as wg-quick(8) would and brings its device up.
func (w *wireguardGo) start() {
	w.t.Helper()
	var s strings.Builder
	fmt.Fprintf(&s, "[Interface]\nPrivateKey = %s\nListenPort = %d\n[Peer]\nPublicKey = %s\nAllowedIPs = %s\n",
		w.key.Base64(), w.port, w.peer.key, strings.Join(w.peer.allowed, ", "))
	if w.peer.endpoint != "" {
		fmt.Fprintf(&s, "Endpoint = %s\n", w.peer.endpoint)
	}
	if !w.peer.psk.IsZero() {
		fmt.Fprintf(&s, "PresharedKey = %s\n", w.peer.psk.Base64())
	}
	path := filepath.Join(w.dir, "wg.conf")
	if err := os.WriteFile(path, []byte(s.String()), 0o600); err != nil {
		w.t.Fatal(err)
	}
	socket := "/var/run/wireguard/" + w.device + ".sock"
	_ = os.Remove(socket)
	w.process = w.ns.Start(w.t, "env", "LOG_LEVEL=error", w.program, "-f", w.device)
	testnet.Await(w.t, socket, startLimit, func() bool {
		select {
		case <-w.process.Done():
			w.t.Fatalf("%s ended: %s", w.program, w.process.Output())
		default:
		}
		// Not only there: wg(8) deletes one that does not answer, as it is between bind and listen.
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	w.ns.Run(w.t, "wg", "setconf", w.device, path)
	for _, a := range w.addresses {
		w.ns.Run(w.t, "ip", "address", "add", a, "dev", w.device)
	}
	w.ns.Run(w.t, "ip", "link", "set", w.device, "mtu", "1420", "up")
	// Until then the kernel neither takes packets to it nor sends from it.
	for _, a := range w.addresses {
		host, _, _ := strings.Cut(a, "/")
		testnet.Await(w.t, "address "+a+" is usable", startLimit, func() bool {
			out, err := w.ns.Try("ip", "route", "get", host)
			return err == nil && strings.HasPrefix(out, "local ")
		})
	}
}

// stop ends the process; its device goes with it.
func (w *wireguardGo) stop() {
	w.t.Helper()
	if err := w.process.Stop(syscall.SIGTERM, startLimit); err != nil && exitCode(err) < 0 {
		w.t.Logf("%s: %v", w.program, err)
	}
	_ = os.Remove("/var/run/wireguard/" + w.device + ".sock")
}

package compat

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/testnet"
)

// limit bounds what takes milliseconds on an idle machine.
const limit = 20 * time.Second

// names counts the devices of this run.
var names atomic.Int32

// newName returns a device name that nobody else has, also on a machine where several test runs go
// on.
func newName() string {
	return "tc" + strconv.FormatInt(int64(os.Getpid()), 36) + "x" + strconv.FormatInt(int64(names.Add(1)), 36)
}

// device is a TUN device with the process behind it, started as wg-quick does.
type device struct {
	t     testing.TB
	name  string
	ns    *testnet.NS // where its sockets are
	inner *testnet.NS // where it is
	key   keys.PrivateKey
}

// start starts a program (tund, wireguard-go) for a new device in ns. At the end of the test the
// device is deleted, and the program has to end and take its socket along.
func start(t testing.TB, ns *testnet.NS, program string) *device {
	t.Helper()
	return startAs(t, ns, program, newName())
}

func startAs(t testing.TB, ns *testnet.NS, program, name string, env ...string) *device {
	t.Helper()
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, name: name, ns: ns, inner: ns, key: key}
	d.launch(program, env...)
	t.Cleanup(d.end)
	return d
}

// launch starts a program for the device.
func (d *device) launch(program string, env ...string) {
	d.t.Helper()
	command := append([]string{"env", "TUND_RUN_DIR=" + filepath.Join(testnet.Dir(), "run")}, env...)
	d.ns.Run(d.t, append(command, program, d.name)...)
	if strings.HasSuffix(program, "wireguard-go") { // it returns before the device is safe to move
		testnet.Await(d.t, "answer of "+d.name, limit, func() bool { _, err := d.ask("get=1\n\n"); return err == nil })
	}
}

// end deletes the device, if it is still there, and waits for its process to end.
func (d *device) end() {
	d.t.Helper()
	_, _ = d.inner.Try("ip", "link", "delete", d.name)
	d.gone()
}

// gone waits until the process has removed its socket.
func (d *device) gone() {
	d.t.Helper()
	testnet.Await(d.t, "end of "+d.name, limit, func() bool {
		_, err := os.Lstat(d.socket())
		return err != nil
	})
}

func (d *device) socket() string { return filepath.Join(sockets, d.name+".sock") }

// move moves the device to another namespace; its UDP sockets stay where they are.
func (d *device) move(to *testnet.NS) {
	d.t.Helper()
	d.inner.Run(d.t, "ip", "link", "set", d.name, "netns", to.Name())
	d.inner = to
}

// up gives the device addresses and brings it up.
func (d *device) up(addrs ...string) {
	d.t.Helper()
	for _, a := range addrs {
		d.inner.Run(d.t, "ip", "address", "add", a, "dev", d.name)
	}
	d.inner.Run(d.t, "ip", "link", "set", d.name, "up")
}

// wg runs wg(8) with the device's name after the verb, and returns what it printed.
func (d *device) wg(verb string, args ...string) string {
	d.t.Helper()
	out, err := d.tryWG("", append([]string{verb, d.name}, args...)...)
	if err != nil {
		d.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// set runs wg set with its input: secrets go through files that are not there.
func (d *device) set(args ...string) {
	d.t.Helper()
	d.wg("set", args...)
}

// apply gives wg setconf, addconf or syncconf a configuration.
func (d *device) apply(verb, config string) {
	d.t.Helper()
	d.wg(verb, d.file("conf", config))
}

// file writes a file for wg to read.
func (d *device) file(name, text string) string {
	d.t.Helper()
	path := filepath.Join(testnet.Scratch(d.t), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// keyFile writes the device's own key to a file.
func (d *device) keyFile() string { return d.file("key", d.key.Base64()+"\n") }

func (d *device) tryWG(input string, args ...string) (string, error) {
	cmd := exec.Command("wg", args...)
	cmd.Env = append(os.Environ(), "WG_HIDE_KEYS=never", "LC_ALL=C")
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("wg %s: %w", strings.Join(args, " "), err)
	}
	return string(out), err
}

// peer is what wg show dump tells of one peer.
type peer struct {
	psk, endpoint, allowed, keepalive string
	handshake                         int64 // 0: never
	rx, tx                            uint64
}

// peers reads the peers of the device by their keys.
func (d *device) peers() map[keys.PublicKey]peer {
	d.t.Helper()
	all := make(map[keys.PublicKey]peer)
	for i, line := range strings.Split(strings.TrimSpace(d.wg("show", "dump")), "\n") {
		f := strings.Split(line, "\t")
		if i == 0 || len(f) != 8 {
			continue // the device itself
		}
		key, err := keys.ParsePublic(f[0])
		if err != nil {
			d.t.Fatal(err)
		}
		p := peer{psk: f[1], endpoint: f[2], allowed: f[3], keepalive: f[7]}
		if p.rx, err = strconv.ParseUint(f[5], 10, 64); err != nil {
			d.t.Fatal(err)
		}
		if p.tx, err = strconv.ParseUint(f[6], 10, 64); err != nil {
			d.t.Fatal(err)
		}
		if p.handshake, err = strconv.ParseInt(f[4], 10, 64); err != nil {
			d.t.Fatal(err)
		}
		all[key] = p
	}
	return all
}

// ask sends one request on the device's socket and returns the answer.
func (d *device) ask(request string) (string, error) {
	conn, err := net.Dial("unix", d.socket())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return converse(conn, request)
}

// converse sends one request and reads until the empty line that ends the answer.
func converse(conn net.Conn, request string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	var answer bytes.Buffer
	buf := make([]byte, 64<<10)
	for !bytes.HasSuffix(answer.Bytes(), []byte("\n\n")) {
		n, err := conn.Read(buf)
		answer.Write(buf[:n])
		if err != nil {
			return answer.String(), err
		}
	}
	return answer.String(), nil
}

// pair is two devices whose processes see each other over a veth pair and whose devices are in the
// same namespaces.
type pair struct {
	a, b *device
}

// Addresses of a pair: outside and inside the tunnel.
const (
	outerA, outerB   = "192.0.2.1", "192.0.2.2"
	outerA6, outerB6 = "2001:db8::1", "2001:db8::2"
	innerA, innerB   = "10.9.0.1", "10.9.0.2"
	innerA6, innerB6 = "fd09::1", "fd09::2"
	portA, portB     = "51821", "51822"
)

// newPair starts two devices, a by programA and b by programB, and configures each as the other's
// peer.
func newPair(t testing.TB, programA, programB string) *pair {
	t.Helper()
	nsA, nsB := testnet.New(t), testnet.New(t)
	testnet.Veth(t, nsA, nsB, []string{outerA + "/24", outerA6 + "/64"}, []string{outerB + "/24", outerB6 + "/64"})
	p := &pair{a: start(t, nsA, programA), b: start(t, nsB, programB)}
	p.a.set("private-key", p.a.keyFile(), "listen-port", portA, "peer", p.b.key.Public().String(),
		"endpoint", outerB+":"+portB, "allowed-ips", innerB+"/32,"+innerB6+"/128")
	p.b.set("private-key", p.b.keyFile(), "listen-port", portB, "peer", p.a.key.Public().String(),
		"endpoint", outerA+":"+portA, "allowed-ips", innerA+"/32,"+innerA6+"/128")
	p.a.up(innerA+"/24", innerA6+"/64")
	p.b.up(innerB+"/24", innerB6+"/64")
	return p
}

// ping sends one echo request and reports whether the answer came within a second.
func ping(ns *testnet.NS, to string, args ...string) error {
	out, err := ns.Try(append([]string{"ping", "-n", "-c", "1", "-W", "4"}, append(args, to)...)...)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// mustPing is ping, tried for a while: a busy machine takes longer than a second now and then.
func mustPing(t testing.TB, ns *testnet.NS, to string, args ...string) {
	t.Helper()
	var last error
	for range 5 {
		if last = ping(ns, to, args...); last == nil {
			return
		}
	}
	t.Fatal(last)
}

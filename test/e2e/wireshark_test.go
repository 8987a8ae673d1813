package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// captures begins tunctl capture at a gateway, and waits until the file has its beginning.
func (g *gateway) captures(file string, flags ...string) *testnet.Process {
	g.T.Helper()
	p := g.capturing(append([]string{"-w", file}, flags...)...)
	testnet.Await(g.T, "the capture begins", startLimit, func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > 0
	})
	return p
}

// capturing begins tunctl capture at a gateway.
func (g *gateway) capturing(flags ...string) *testnet.Process {
	return g.NS.Start(g.T, append([]string{"env", "TUND_RUN_DIR=" + filepath.Join(g.Dir, "run"), testnet.Tunctl(g.T), "capture"}, flags...)...)
}

// awaits waits until a file has n packets with a text in their comments.
func awaits(t *testing.T, file, text string, n int) {
	t.Helper()
	testnet.Await(t, "packets "+text+" in "+filepath.Base(file), startLimit, func() bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.Count(string(b), text) >= n
	})
}

// tshark returns one line for each packet of a file, with fields separated by tabs.
func tshark(t *testing.T, program, file string, flags ...string) string {
	t.Helper()
	out, err := testnet.New(t).Try(append([]string{program, "-n", "-r", file}, flags...)...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

// fields are what the test wants to see of each packet.
var fields = []string{"-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "frame.comment",
	"-e", "ip.src", "-e", "ip.dst", "-e", "icmp.type", "-e", "wg.keepalive"}

// Wireshark is the reader for whom captures are made: it finds peers, directions and reasons, and
// decrypts the datagrams of WireGuard sessions.
func TestCapture_inWireshark(t *testing.T) {
	t.Parallel()
	program := testnet.Program(t, "tshark")
	p := newPair(t, false)
	shared := psk(t)
	p.a.peers[0].psk, p.b.peers[0].psk = shared, shared
	// Without data sessions, which Wireshark does not know.
	p.a.peers[0].more = []string{`extensions = "off"`}
	p.start()
	one, two := filepath.Join(p.a.Dir, "one.pcapng"), filepath.Join(p.a.Dir, "two.pcapng")
	keylog := filepath.Join(p.a.Dir, "keys")
	first := p.a.captures(one, "--outer", "--keys")
	second := p.a.captures(two, "--outer", "--keylog", keylog, "peer", "berlin")
	ping(t, p.a.NS, p.endB().v4, 5)
	ping(t, p.b.NS, p.endA().v4, 5)
	_, _ = p.a.NS.Try("ping", "-c", "1", "-W", "1", "10.9.0.77") // nobody's
	awaits(t, one, "dropped: no-peer", 1)
	awaits(t, two, "from peer berlin", 20)
	for _, capture := range []*testnet.Process{first, second} {
		if err := capture.Stop(syscall.SIGINT, startLimit); err != nil || !strings.Contains(capture.Output(), " 0 lost") {
			t.Errorf("capture ended with %v: %s", err, capture.Output())
		}
	}

	got := tshark(t, program, one, fields...)
	echo := func(where, direction, src, dst, kind string) string {
		peer := map[string]string{"0x00000001": "from peer berlin", "0x00000002": "to peer berlin"}[direction]
		return strings.Join([]string{where, direction, peer, src, dst, kind}, "\t")
	}
	for line, count := range map[string]int{
		echo(p.a.Name, "0x00000001", "10.9.0.2", "10.9.0.1", "0"):           5,
		echo(p.a.Name, "0x00000001", "10.9.0.2", "10.9.0.1", "8"):           5,
		echo(p.a.Name, "0x00000002", "10.9.0.1", "10.9.0.2", "0"):           5,
		p.a.Name + "\t0x00000002\tdropped: no-peer\t10.9.0.1\t10.9.0.77\t8": 1,
		// The addresses of the datagrams, and of what Wireshark decrypts in them.
		echo("outer", "0x00000001", underlayB4+",10.9.0.2", underlayA4+",10.9.0.1", "0"): 5,
		echo("outer", "0x00000002", underlayA4+",10.9.0.1", underlayB4+",10.9.0.2", "8"): 5,
	} {
		if n := strings.Count(got, line); n != count {
			t.Errorf("%d packets %q, want %d in:\n%s", n, line, count, got)
		}
	}
	got = tshark(t, program, two, append([]string{"-o", "wg.keylog_file:" + keylog}, fields...)...)
	if n := strings.Count(got, underlayB4+",10.9.0.2\t"+underlayA4+",10.9.0.1\t"); n != 10 || strings.Contains(got, "no-peer") {
		t.Errorf("with a key log: %d packets in:\n%s", n, got)
	}
	if info, err := os.Stat(keylog); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key log: %v, %v", info, err)
	}
	p.a.Stop()
	p.b.Stop()
}

// A capture that nobody reads, one that was killed and one whose disk is full harm nobody.
func TestCapture_endsWithItsReader(t *testing.T) {
	t.Parallel()
	p := newPair(t, false)
	p.start()
	pings := startPing(t, p.a.NS, p.endB().v4, 20*time.Millisecond)
	pings.goesOn("before", startLimit)
	file := func(name string) string { return filepath.Join(p.a.Dir, name) }
	killed, stopped := p.a.captures(file("killed")), p.a.captures(file("stopped"))
	stopped.Signal(syscall.SIGSTOP) // reads no more
	killed.Signal(syscall.SIGKILL)
	p.a.Says(startLimit, "change by the control socket", "/v1/capture", " lost")
	full := p.a.capturing("-w", "/dev/full")
	if code := exitCode(full.Wait()); code != 1 || !strings.Contains(full.Output(), "no space left on device") {
		t.Errorf("on a full disk: exit code %d: %s", code, full.Output())
	}
	limited := p.a.captures(file("limited"), "-c", "4", "in")
	if err := limited.Wait(); err != nil || !strings.Contains(limited.Output(), "4 packets captured") {
		t.Errorf("with a limit: %v: %s", err, limited.Output())
	}
	last := p.a.captures(file("last"))
	awaits(t, file("last"), "to peer berlin", 3)
	p.a.peers[0].name = "bonn"
	p.a.reload()
	awaits(t, file("last"), "to peer bonn", 3)
	pings.wantNoLoss()
	stopped.Signal(syscall.SIGCONT)
	p.a.Stop()
	for _, capture := range []*testnet.Process{stopped, last} {
		if code := exitCode(capture.Wait()); code != 1 || !strings.Contains(capture.Output(), "the instance is stopping") {
			t.Errorf("after the end of the instance: exit code %d: %s", code, capture.Output())
		}
	}
	p.b.Stop()
}

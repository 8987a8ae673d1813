package route

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/testnet"
)

// newInside returns a Manager that works in ns.
func newInside(t *testing.T, ns *testnet.NS, instance string) *Manager {
	t.Helper()
	var m *Manager
	ns.Do(func() {
		var err error
		if m, err = New(instance); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// newHost returns a namespace with what testStates expects: a TUN, a TAP and somebody else's
// bridge, and an uplink.
func newHost(t *testing.T) *testnet.NS {
	t.Helper()
	ns, router := testnet.New(t), testnet.New(t)
	testnet.Veth(t, ns, router, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	ns.Run(t, "ip", "route", "add", "default", "via", "192.0.2.2")
	ns.Run(t, "ip", "link", "add", "br-other", "type", "bridge")
	addDevices(t, ns)
	return ns
}

// addDevices makes the TUN and the TAP, persistent, since nobody holds them open here.
func addDevices(t *testing.T, ns *testnet.NS) {
	t.Helper()
	ns.Run(t, "sh", "-c", "ip tuntap add dev office mode tun && ip tuntap add dev office-tap mode tap")
}

// removeDevices does what the kernel does with the devices of a killed process.
func removeDevices(t *testing.T, ns *testnet.NS) {
	t.Helper()
	ns.Run(t, "sh", "-c", "ip link delete office && ip link delete office-tap")
}

// brittle fails every change from the given step on (as if killed) or only that one.
type brittle struct {
	kernel
	step, failAt int
	onward       bool
}

var errInjected = errors.New("injected")

func (k *brittle) next() error {
	k.step++
	if k.step == k.failAt || k.onward && k.step > k.failAt {
		return errInjected
	}
	return nil
}

func (k *brittle) add(instance string, o object) error {
	if err := k.next(); err != nil {
		return err
	}
	return k.kernel.add(instance, o)
}

func (k *brittle) replace(o routeObject) error {
	if err := k.next(); err != nil {
		return err
	}
	return k.kernel.replace(o)
}

func (k *brittle) remove(instance string, o object) error {
	if k.onward {
		if err := k.next(); err != nil {
			return err
		}
	}
	return k.kernel.remove(instance, o)
}

// TestManager_leavesNoDescriptors is not parallel: it counts those of the whole process.
func TestManager_leavesNoDescriptors(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	ns := testnet.New(t)
	ns.Do(func() {
		before := count()
		for range 20 {
			m, err := New("office")
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if after := count(); after != before {
			t.Errorf("%d descriptors, want %d as before", after, before)
		}
	})
}

func TestManager_inANamespaceTransitionsEndWhereADirectApplyDoes(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	before := ns.Snapshot()
	states := testStates()
	direct := make([]string, len(states))
	for i, s := range states {
		m := newInside(t, ns, "office")
		got, err := m.Apply(context.Background(), s.state)
		if err != nil {
			t.Fatalf("%s: %v\n%s", s.name, err, got)
		}
		direct[i] = settled(ns.Snapshot())
		again, err := m.Apply(context.Background(), s.state)
		if err != nil || again.String() != got.String() {
			t.Errorf("%s: second Apply = %v\n%s, want\n%s", s.name, err, again, got)
		}
		if err := m.Close(); err != nil {
			t.Fatalf("%s: Close: %v", s.name, err)
		}
		if after := ns.Snapshot(); after != before {
			t.Fatalf("%s: after Close\ngot:\n%swant:\n%s", s.name, after, before)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	m := newInside(t, ns, "office")
	last := "start"
	for range 12 {
		i := random.IntN(len(states))
		if _, err := m.Apply(context.Background(), states[i].state); err != nil {
			t.Fatalf("from %q to %q: %v", last, states[i].name, err)
		}
		if now := settled(ns.Snapshot()); now != direct[i] {
			t.Fatalf("from %q to %q\ngot:\n%swant:\n%s", last, states[i].name, now, direct[i])
		}
		last = states[i].name
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if after := ns.Snapshot(); after != before {
		t.Errorf("after Close\ngot:\n%swant:\n%s", after, before)
	}
}

// settled leaves out of a snapshot what depends on the way there by design: link MTUs that a
// State leaves alone, which address of a network came first, the local table, which follows
// addresses in the background, what the kernel derives from a bridge's random address, and the
// multicast route that it makes with a device's first IPv6 address and keeps after the last.
func settled(snapshot string) string {
	var b strings.Builder
	for line := range strings.Lines(withoutLinkMTU(snapshot)) {
		if !strings.Contains(line, " table 255 ") && !strings.Contains(line, "fe80::") && !strings.Contains(line, "ff00::/8") {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " src ")
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func withoutLinkMTU(text string) string {
	fields := strings.Split(text, " mtu=")
	for i := range fields[1:] {
		_, fields[i+1], _ = strings.Cut(fields[i+1], " ")
	}
	return strings.Join(fields, " ")
}

func TestManager_inANamespaceFailuresLeaveNothing(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	before := ns.Snapshot()
	s := testStates()[5].state
	random := rand.New(rand.NewPCG(50, 0))
	for range 50 {
		m := newInside(t, ns, "office")
		k := &brittle{kernel: m.k, failAt: 1 + random.IntN(fullTunnelSteps)}
		m.k = k
		_, err := m.Apply(context.Background(), s)
		if !errors.Is(err, errInjected) && k.failAt != sysctlStep {
			t.Errorf("step %d: Apply = %v, want the injected failure", k.failAt, err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("step %d: Close: %v", k.failAt, err)
		}
		if after := ns.Snapshot(); after != before {
			t.Fatalf("step %d\ngot:\n%swant:\n%s", k.failAt, after, before)
		}
	}
}

// The steps of the full tunnel in testdata/states.golden, and the one whose failure is only a
// warning.
const (
	fullTunnelSteps = 22
	sysctlStep      = 9
)

func TestCleanup_removesWhatAKilledInstanceLeft(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	s := testStates()[5].state
	removeDevices(t, ns)
	before := ns.Snapshot()
	for step := 1; step <= fullTunnelSteps+1; step++ {
		addDevices(t, ns)
		m := newInside(t, ns, "office")
		// From here on it does nothing any more.
		m.k = &brittle{kernel: m.k, failAt: step, onward: true}
		_, _ = m.Apply(context.Background(), s)
		removeDevices(t, ns)
		ns.Do(func() {
			if n, err := Cleanup("another"); err != nil || n != 0 {
				t.Errorf("step %d: Cleanup of another: %d objects, %v", step, n, err)
			}
			if _, err := Cleanup("office"); err != nil {
				t.Errorf("step %d: Cleanup: %v", step, err)
			}
		})
		if after := ns.Snapshot(); after != before {
			t.Fatalf("killed at step %d\ngot:\n%swant:\n%s", step, after, before)
		}
	}
}

func TestManager_inANamespaceTwoInstancesDoNotTouchEachOther(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	ns.Run(t, "ip", "tuntap", "add", "dev", "home", "mode", "tun")
	before := ns.Snapshot()
	office, home := newInside(t, ns, "office"), newInside(t, ns, "home")
	apply(t, office, testStates()[5].state)
	alone := ns.Snapshot()
	second := State{Devices: []Device{{
		Name: "home", Addrs: prefixes("10.8.0.1/24"), Up: true,
		Routes: RoutesFor(prefixes("0.0.0.0/0", "10.30.0.0/16"), 0, 0),
	}}}
	apply(t, home, second)
	if err := home.Close(); err != nil {
		t.Fatal(err)
	}
	if now := ns.Snapshot(); now != alone {
		t.Errorf("after the second left\ngot:\n%swant:\n%s", now, alone)
	}
	// The other way round: who came first leaves first, and the second restores the sysctl.
	home = newInside(t, ns, "home")
	apply(t, home, second)
	for _, m := range []*Manager{office, home} {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := ns.Snapshot(); after != before {
		t.Errorf("after both left\ngot:\n%swant:\n%s", after, before)
	}
}

// TestManager_fullTunnelResistsTunnelVision is CVE-2024-3661: a DHCP server hands out routes that
// are more specific than the default. It is also CVE-2023-36672: the uplink's network is somebody
// else's public one.
func TestManager_fullTunnelResistsTunnelVision(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	m := newInside(t, ns, "office")
	got := apply(t, m, testStates()[5].state)
	for _, rogue := range []string{"0.0.0.0/1", "128.0.0.0/1", "8.8.8.0/24", "192.168.7.0/24"} {
		ns.Run(t, "ip", "route", "add", rogue, "via", "192.0.2.2", "dev", "eth0")
	}
	for _, rogue := range []string{"::/1", "8000::/1"} {
		ns.Run(t, "ip", "route", "add", rogue, "via", "2001:db8::2", "dev", "eth0")
	}
	mark := hex(got.FwMark)
	for _, c := range []struct{ what, dst, mark, want string }{
		{"a public address", "203.0.113.1", "0", "dev office"},
		{"a public address with a rogue route", "8.8.8.8", "0", "dev office"},
		{"an IPv6 address", "2001:db8:9::1", "0", "dev office"},
		{"a neighbour with a public address", "192.0.2.2", "0", "dev office"},
		{"an allowed IP", "10.20.1.1", "0", "dev office"},
		{"a private network beside us", "192.168.7.7", "0", "dev eth0"},
		{"our own packets", "203.0.113.1", mark, "dev eth0"},
		{"our own packets to a private endpoint", "192.168.7.7", mark, "dev eth0"},
		{"our own IPv6 packets", "2001:db8:9::1", mark, "dev eth0"},
		{"this host", "192.0.2.1", "0", "dev lo"},
	} {
		if out := ns.Run(t, "ip", "route", "get", c.dst, "mark", c.mark); !strings.Contains(out, c.want+" ") {
			t.Errorf("%s: ip route get %s mark %s = %q, want %s", c.what, c.dst, c.mark, out, c.want)
		}
	}
	for _, c := range []struct {
		mark uint32
		want bool
	}{{0, true}, {got.FwMark, false}} {
		into, err := m.LeadsIntoTunnel(netip.MustParseAddr("203.0.113.1"), c.mark)
		if err != nil || into != c.want {
			t.Errorf("LeadsIntoTunnel with mark %#x = %t, %v, want %t", c.mark, into, err, c.want)
		}
	}
}

// answersTo reports whether an address answers to a host, which asks each second until it does, and
// for ten seconds: on a busy machine an answer may take longer than one question waits for it.
func answersTo(ns *testnet.NS, address string) bool {
	_, err := ns.Try("ping", "-c1", "-w10", address)
	return err == nil
}

// TestManager_fullTunnelDropsForeignPacketsToItsAddress is CVE-2019-14899: a neighbour finds out
// the tunnel's address by who answers to it.
func TestManager_fullTunnelDropsForeignPacketsToItsAddress(t *testing.T) {
	t.Parallel()
	ns, neighbour := testnet.New(t), testnet.New(t)
	testnet.Veth(t, ns, neighbour, []string{"192.168.5.1/24", "fd05::1/64"}, []string{"192.168.5.2/24", "fd05::2/64"})
	addDevices(t, ns)
	neighbour.Run(t, "ip", "route", "add", "10.9.0.0/16", "via", "192.168.5.1")
	neighbour.Run(t, "ip", "route", "add", "fd09::/64", "via", "fd05::1")
	m := newInside(t, ns, "office")
	apply(t, m, testStates()[1].state)
	for _, target := range []string{"10.9.0.1", "fd09::1"} {
		if !answersTo(neighbour, target) {
			t.Errorf("%s does not answer without a full tunnel: a gateway's own address is to be reachable", target)
		}
	}
	apply(t, m, testStates()[5].state)
	for _, target := range []string{"10.9.0.1", "fd09::1"} {
		if out, err := neighbour.Try("ping", "-c1", "-W1", target); err == nil {
			t.Errorf("%s answers a neighbour: %s", target, out)
		}
		if !answersTo(ns, target) {
			t.Errorf("the host itself cannot ping %s", target)
		}
	}
	for _, target := range []string{"192.168.5.1", "fd05::1"} {
		if !answersTo(neighbour, target) {
			t.Errorf("%s, the host's address in the private network, does not answer", target)
		}
	}
}

func TestManager_inANamespaceErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	ns.Run(t, "ip", "route", "add", "10.20.0.0/16", "via", "192.0.2.2")
	ns.Run(t, "sysctl", "-qw", "net.ipv6.conf.office.disable_ipv6=1")
	m := newInside(t, ns, "office")
	s := testStates()[1].state
	s.Devices = append(s.Devices, Device{Name: "office-tap", Bridge: "eth0"})
	got, err := m.Apply(context.Background(), s)
	if err == nil {
		t.Fatal("Apply succeeded")
	}
	for _, want := range []string{
		"`ip route show 10.20.0.0/16 table main`", "disable_ipv6=0", "link office-tap master eth0",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v\nlacks %q", err, want)
		}
	}
	if !errors.Is(err, unix.EEXIST) || !errors.Is(err, unix.EACCES) {
		t.Errorf("error = %v, want EEXIST and EACCES in it", err)
	}
	if d := got.Devices[0]; len(d.Addrs) != 1 || !d.Up || d.MTU != 1420 {
		t.Errorf("applied %v, want the IPv4 address, up, MTU 1420", got)
	}
}

package route

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/route/mark"
	"tund/route/refused"
	"tund/route/sysctl"
)

func fakeManager() (*Manager, *fakeKernel) {
	k := newFake()
	return newManager("office", k, nil), k
}

// TestManager_goldenStates compares each state's changes, result and removal with text that a
// reviewer can judge line by line. TUND_UPDATE_GOLDEN=1 rewrites it.
func TestManager_goldenStates(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, s := range testStates() {
		m, k := fakeManager()
		before := k.text(t)
		got, err := m.Apply(context.Background(), s.state)
		if err != nil {
			t.Errorf("%s: Apply: %v", s.name, err)
		}
		b.WriteString("== " + s.name + "\n" + strings.Join(k.log, "\n") + "\n-- applied\n" + got.String())
		k.log = nil
		if _, err := m.Apply(context.Background(), s.state); err != nil || len(k.log) > 0 {
			t.Errorf("%s: second Apply = %v, changes %q, want none", s.name, err, k.log)
		}
		if err := m.Close(); err != nil {
			t.Errorf("%s: Close: %v", s.name, err)
		}
		b.WriteString("-- close\n" + strings.Join(k.log, "\n") + "\n\n")
		if after := k.text(t); after != before {
			t.Errorf("%s: after Close\ngot:\n%swant:\n%s", s.name, after, before)
		}
	}
	path := filepath.Join("testdata", "states.golden")
	if os.Getenv("TUND_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("differs from %s (TUND_UPDATE_GOLDEN=1 rewrites it):\n%s", path, b.String())
	}
}

func TestManager_randomTransitionsEndWhereADirectApplyDoes(t *testing.T) {
	t.Parallel()
	states := testStates()
	direct := make([]string, len(states))
	for i, s := range states {
		m, k := fakeManager()
		if _, err := m.Apply(context.Background(), s.state); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		direct[i] = withoutMTU(k.text(t))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	m, k := fakeManager()
	before := k.text(t)
	last := "start"
	for range 500 {
		i := random.IntN(len(states))
		k.log = nil
		got, err := m.Apply(context.Background(), states[i].state)
		if err != nil {
			t.Fatalf("from %q to %q: %v", last, states[i].name, err)
		}
		if now := withoutMTU(k.text(t)); now != direct[i] {
			t.Fatalf("from %q to %q\ngot:\n%swant:\n%schanges:\n%s\napplied:\n%s",
				last, states[i].name, now, direct[i], strings.Join(k.log, "\n"), got)
		}
		last = states[i].name
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if after := k.text(t); after != before {
		t.Errorf("after Close\ngot:\n%swant:\n%s", after, before)
	}
}

// withoutMTU hides the MTU of links, which stays at a device that a State no longer has.
func withoutMTU(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if name, rest, ok := strings.Cut(line, " mtu "); ok {
			_, rest, _ = strings.Cut(rest, " ")
			line = name + " " + rest
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestManager_failureAtAnyStepLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, s := range testStates() {
		for step := 1; ; step++ {
			m, k := fakeManager()
			before := k.text(t)
			k.fail = func(n int, c change) error {
				if n == step && c.do != doRemove {
					return unix.EIO
				}
				return nil
			}
			_, err := m.Apply(context.Background(), s.state)
			reached := k.step >= step
			var op *refused.Error
			if reached && (!errors.As(err, &op) || !errors.Is(err, unix.EIO)) && !softAt(k.log) {
				t.Errorf("%s: failure at step %d: Apply = %v, want an Error", s.name, step, err)
			}
			if err := m.Close(); err != nil {
				t.Errorf("%s: failure at step %d: Close: %v", s.name, step, err)
			}
			if after := k.text(t); after != before {
				t.Errorf("%s: failure at step %d\ngot:\n%swant:\n%schanges:\n%s", s.name, step, after, before, strings.Join(k.log, "\n"))
			}
			if !reached {
				break
			}
		}
	}
}

// softAt reports whether the failed step is one that only warns.
func softAt(log []string) bool {
	for _, line := range log {
		if strings.HasPrefix(line, "add sysctl") && strings.HasSuffix(line, unix.EIO.Error()) {
			return true
		}
	}
	return false
}

func TestManager_foreignRouteIsNotTakenAndTheErrorSaysWhatToDo(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	k.foreign[routeObject{"", prefixes("10.20.0.0/16")[0], unix.RT_TABLE_MAIN, 0}] = true
	got, err := m.Apply(context.Background(), testStates()[1].state)
	const want = "add route 10.20.0.0/16 dev office: file exists (another route is there already: see " +
		"`ip route show 10.20.0.0/16 table main`; remove it, or set another metric or table)"
	if err == nil || err.Error() != want {
		t.Errorf("Apply = %v\nwant    %s", err, want)
	}
	if text := got.String(); !strings.Contains(text, "route fd20::/48") || strings.Contains(text, "10.20.0.0/16") {
		t.Errorf("applied = %q, want the other routes and not the refused one", text)
	}
}

func TestManager_withoutPrivilegeTheErrorIsShort(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	k.fail = func(int, change) error { return unix.EPERM }
	_, err := m.Apply(context.Background(), testStates()[1].state)
	const want = "add link office mtu 1420: operation not permitted (needs CAP_NET_ADMIN: run as root or by the tund@ service)\n" +
		"8 more changes refused for the same reason"
	if err == nil || err.Error() != want {
		t.Errorf("Apply = %v\nwant    %s", err, want)
	}
}

func TestManager_missingDeviceIsAnErrorAndTheOthersAreServed(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	delete(k.links, "office-tap")
	got, err := m.Apply(context.Background(), testStates()[2].state)
	if err == nil || !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "link office-tap") {
		t.Errorf("Apply = %v, want ENODEV for office-tap", err)
	}
	if len(got.Devices) != 1 || len(got.Devices[0].Routes) != 3 {
		t.Errorf("applied = %v, want office complete", got)
	}
}

func TestManager_invalidStateChangesNothing(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]Device{
		"device name":         {Name: "a-name-too-long-for-linux"},
		"bridge name":         {Name: "office", Bridge: "a/b"},
		"port of itself":      {Name: "office", Bridge: "office"},
		"not a masked prefix": {Name: "office", Routes: []Route{{Dst: prefixes("10.0.0.1/8")[0]}}},
		"want an address":     {Name: "office", Addrs: prefixes("::ffff:10.0.0.1/120")},
	} {
		m, k := fakeManager()
		_, err := m.Apply(context.Background(), State{Devices: []Device{d}})
		if err == nil || !strings.Contains(err.Error(), want) || len(k.log) > 0 {
			t.Errorf("Apply = %v, changes %q, want an error with %q and none", err, k.log, want)
		}
	}
}

func TestManager_bridgeWithForeignPortsStays(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	if _, err := m.Apply(context.Background(), testStates()[2].state); err != nil {
		t.Fatal(err)
	}
	k.links["vm0"] = link{name: "vm0", index: 50, up: true, master: "br0"}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if br := k.links["br0"]; !br.bridge || !br.up {
		t.Errorf("br0 = %+v, want it left to the virtual machine", br)
	}
	if master := k.links["office-tap"].master; master != "" {
		t.Errorf("master of office-tap = %q, want none", master)
	}
	delete(k.links, "vm0")
	if err := newManager("office", k, nil).Close(); err != nil { // what Cleanup does
		t.Fatal(err)
	}
	if _, ok := k.links["br0"]; ok {
		t.Error("br0 is still there after its last port went")
	}
}

func TestManager_lastInstanceToLeaveRemovesTheOthersBridge(t *testing.T) {
	t.Parallel()
	first, k := fakeManager()
	second := newManager("home", k, nil)
	before := k.text(t)
	k.links["home-tap"] = link{name: "home-tap", index: 60, mtu: 1500}
	apply(t, first, State{Devices: []Device{{Name: "office-tap", Bridge: "br0"}}})
	apply(t, second, State{Devices: []Device{{Name: "home-tap", Bridge: "br0"}}})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := k.links["br0"]; !ok {
		t.Error("br0 was taken from the second instance")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	delete(k.links, "home-tap")
	if after := k.text(t); after != before {
		t.Errorf("got:\n%swant:\n%s", after, before)
	}
}

func TestManager_srcValidMarkIsRestoredByTheLastInstance(t *testing.T) {
	t.Parallel()
	full := testStates()[5].state
	first, k := fakeManager()
	second := newManager("home", k, nil)
	home := full.clone()
	home.Devices = home.Devices[:1]
	home.Devices[0].Name, home.Devices[0].Routes = "home", RoutesFor(prefixes("0.0.0.0/0"), 0, 0)
	k.links["home"] = link{name: "home", index: 60, mtu: 1420, up: true}
	before := k.text(t)
	apply(t, first, full)
	apply(t, second, home)
	if mark.Table("office") == mark.Table("home") {
		t.Fatal("two instances with one table")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if !k.sysctls[sysctl.SrcValidMark] {
		t.Error("src_valid_mark was taken from the second instance")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if after := k.text(t); after != before {
		t.Errorf("got:\n%swant:\n%s", after, before)
	}
}

// A device whose MTU is no longer said has the one again that it had before.
func TestManager_anMTUThatIsNoLongerWantedIsGivenBack(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	for _, said := range []int{0, 576, 0, 9000, 0} {
		apply(t, m, State{Devices: []Device{{Name: "office-tap", MTU: said}}})
		if got, want := k.links["office-tap"].mtu, cmp.Or(said, 1500); got != want {
			t.Errorf("MTU %d where %d is said, want %d", got, said, want)
		}
	}
}

func TestManager_withoutNftablesAFullTunnelWarns(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	before := k.text(t)
	k.fail = func(_ int, c change) error {
		if _, ok := c.o.(guardObject); ok {
			return unix.EOPNOTSUPP
		}
		return nil
	}
	got, err := m.Apply(context.Background(), testStates()[5].state)
	if err != nil || !got.FullTunnel4 || !got.FullTunnel6 {
		t.Errorf("Apply = %v, %v, want a full tunnel", got, err)
	}
	if text := strings.Join(got.Warnings, "\n"); !strings.Contains(text, "no usable nftables") {
		t.Errorf("warnings = %q, want one about nftables", text)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if after := k.text(t); after != before {
		t.Errorf("got:\n%swant:\n%s", after, before)
	}
}

func TestManager_stopsBetweenChangesWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	ctx, cancel := context.WithCancel(context.Background())
	k.fail = func(step int, _ change) error {
		if step == 3 {
			cancel()
		}
		return nil
	}
	_, err := m.Apply(ctx, testStates()[5].state)
	if !errors.Is(err, context.Canceled) || k.step != 3 {
		t.Errorf("Apply = %v after %d changes, want context.Canceled after 3", err, k.step)
	}
}

func TestManager_closedManagerRefuses(t *testing.T) {
	t.Parallel()
	m, _ := fakeManager()
	for range 2 {
		if err := m.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	if _, err := m.Apply(context.Background(), State{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply = %v, want ErrClosed", err)
	}
}

func TestManager_markIsKnownBeforeApply(t *testing.T) {
	t.Parallel()
	m, _ := fakeManager()
	for _, s := range testStates() {
		got, err := m.Apply(context.Background(), s.state)
		if err != nil || got.FwMark != m.Mark(s.state) {
			t.Errorf("%s: mark %#x, %v, want %#x", s.name, got.FwMark, err, m.Mark(s.state))
		}
	}
	if mark := mark.Default("office"); mark&0x00ffc000 != 0 || mark == 0 {
		t.Errorf("Default = %#x, want the bits of Kubernetes and Tailscale free", mark)
	}
}

func apply(t *testing.T, m *Manager, s State) Applied {
	t.Helper()
	got, err := m.Apply(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

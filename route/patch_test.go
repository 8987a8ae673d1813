package route

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"tund/internal/netwatch"
	"tund/route/mark"
	"tund/route/notice"
)

// siteRoute is the route of a number.
func siteRoute(n int) Route {
	return Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(n)}), 24)}
}

// Many small patches end where one Apply of the same state does.
func TestPatch_endsWhereAnApplyDoes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	m, k := fakeManager()
	device := Device{Name: "office", Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}, Up: true}
	apply(t, m, State{Devices: []Device{device}})
	there := map[int]bool{}
	for range 200 {
		var add, remove []Route
		for n := range 16 {
			switch r.IntN(6) {
			case 0:
				add, there[n] = append(add, siteRoute(n)), true
			case 1:
				remove = append(remove, siteRoute(n))
				delete(there, n)
			}
		}
		if !m.Patch("office", add, remove) {
			t.Fatalf("a patch of %v and %v needs Apply", add, remove)
		}
		whole := device
		for n := range there {
			whole.Routes = append(whole.Routes, siteRoute(n))
		}
		direct, want := fakeManager()
		apply(t, direct, State{Devices: []Device{whole}})
		if got, want := k.text(t), want.text(t); got != want {
			t.Fatalf("after patches:\n%sdirectly:\n%s", got, want)
		}
	}
	k.log = nil
	if _, err := m.restore(context.Background()); err != nil || len(k.log) > 0 {
		t.Errorf("restore after patches: %v, changes %q", err, k.log)
	}
	if err := m.Close(); err != nil || len(k.routes) > 0 {
		t.Errorf("Close leaves %v: %v", k.routes, err)
	}
}

// What does not depend on the changed routes alone is left to Apply, and changes nothing.
func TestPatch_leavesTheRestToApply(t *testing.T) {
	t.Parallel()
	lan := netip.MustParsePrefix("192.168.7.4/24")
	for what, test := range map[string]struct {
		device string
		add    Route
	}{
		"a default route":         {"office", Route{Dst: netip.MustParsePrefix("0.0.0.0/0")}},
		"the network of the host": {"office", Route{Dst: lan.Masked()}},
		"another device":          {"eth0", siteRoute(1)},
		"a prefix with host bits": {"office", Route{Dst: lan}},
		"a device that has gone":  {"ghost", siteRoute(1)},
	} {
		m, k := fakeManager()
		k.addrs[addrObject{"eth0", lan}] = true
		if _, err := m.Apply(context.Background(), State{Devices: []Device{{Name: "office", Up: true}, {Name: "ghost"}}}); err == nil {
			t.Fatal("a missing device is no error")
		}
		k.log = nil
		if m.Patch(test.device, []Route{test.add}, nil) || len(k.log) > 0 {
			t.Errorf("%s: patched, with changes %q", what, k.log)
		}
	}
}

// The kernel announces what Patch removes, which is no reason to read the whole table; what another
// program removes is.
func TestWatch_tellsOurRemovalsFromThoseOfOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, State{Guard: GuardOff, Devices: []Device{
			{Name: "office", Up: true, Routes: []Route{siteRoute(1), siteRoute(2), siteRoute(3)}}}})
		defer w.stop()
		removed := netwatch.Notice{Kind: netwatch.Route, Del: true, Protocol: mark.Protocol}
		if !w.m.Patch("office", nil, []Route{siteRoute(1)}) {
			t.Fatal("needs Apply")
		}
		reads := w.k.reads()
		w.source.batches <- []netwatch.Notice{removed}
		if events := w.pass(2 * settle); len(events) > 0 || w.k.reads() != reads {
			t.Errorf("our own removal: events %+v, and the table is read %d times", events, w.k.reads()-reads)
		}
		if !w.m.Patch("office", nil, []Route{siteRoute(2)}) {
			t.Fatal("needs Apply")
		}
		w.lose() // with a notice of a route, and the one of ours comes as well
		w.source.batches <- []netwatch.Notice{removed}
		if events := w.pass(2 * settle); len(events) != 1 || len(events[0].Lost) != 1 {
			t.Errorf("a removal by another program beside ours: %+v, want one with one route", events)
		}
		if !w.m.Patch("office", nil, []Route{siteRoute(3)}) {
			t.Fatal("needs Apply")
		}
		w.pass(2 * notice.Memory) // the announcement was lost
		reads = w.k.reads()
		w.source.batches <- []netwatch.Notice{removed}
		if w.pass(2 * settle); w.k.reads() == reads {
			t.Error("a removal of ours from long ago explains one of today")
		}
	})
}

func BenchmarkPatch_oneOfManyRoutes(b *testing.B) {
	m, _ := fakeManager()
	d := Device{Name: "office", Up: true}
	for n := range 10_000 {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n)}), 24)
		d.Routes = append(d.Routes, Route{Dst: dst})
	}
	if _, err := m.Apply(context.Background(), State{Devices: []Device{d}}); err != nil {
		b.Fatal(err)
	}
	one := []Route{{Dst: netip.MustParsePrefix("172.16.1.0/24")}}
	for b.Loop() {
		if !m.Patch("office", one, nil) || !m.Patch("office", nil, slices.Clone(one)) {
			b.Fatal("needs Apply")
		}
	}
}

package route

import (
	"context"
	"errors"
	"net/netip"
	"testing"
)

func TestInspect_comparesWithTheKernelAsItIsNow(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	if items, _, err := m.Inspect(); err != nil || len(items) != 0 {
		t.Errorf("before Apply: %v, %v", items, err)
	}
	allowed := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("10.21.0.0/16")}
	s := State{Devices: []Device{{Name: "office", Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}, Routes: RoutesFor(allowed, 0, 0), Up: true},
		{Name: "gone"}}}
	_, _ = m.Apply(context.Background(), s) // "gone" is an error
	got := func() map[string]Standing {
		items, _, err := m.Inspect()
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]Standing)
		for _, i := range items {
			all[i.Object] = i.Standing
		}
		return all
	}
	first := got()
	for object, want := range map[string]Standing{"link gone": Missing, "link office up": Present, "address 10.9.0.1/24 dev office": Present,
		"route 10.20.0.0/16 dev office": Present} {
		if first[object] != want {
			t.Errorf("%s is %q, want %q in %v", object, first[object], want, first)
		}
	}
	k.locked(func() {
		for r := range k.routes {
			if r.dst == allowed[0] {
				delete(k.routes, r)
				r.dst = netip.MustParsePrefix("10.99.0.0/16")
				k.routes[r] = true
			}
		}
		k.log = nil
	})
	second := got()
	if second["route 10.20.0.0/16 dev office"] != Missing || second["route 10.21.0.0/16 dev office"] != Present ||
		second["route 10.99.0.0/16 dev office"] != Surplus {
		t.Errorf("%v", second)
	}
	k.locked(func() {
		if len(k.log) > 0 {
			t.Errorf("Inspect changed something: %v", k.log)
		}
	})
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := m.Inspect(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

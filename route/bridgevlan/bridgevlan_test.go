package bridgevlan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"tund/internal/testnet"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	fresh := map[uint16]flags{1: {true, true}} // as a port joins a bridge
	for name, c := range map[string]struct {
		want Want
		have map[uint16]flags
		ours []uint16
		do   string
	}{
		"nothing wanted":            {Want{PVID: Keep}, fresh, nil, ""},
		"trunk":                     {Want{VLANs: []uint16{20, 10, 11}, PVID: Keep}, fresh, nil, "add 10-11, add 20"},
		"already there":             {Want{VLANs: []uint16{10}, PVID: Keep}, map[uint16]flags{1: {true, true}, 10: {}}, nil, ""},
		"native":                    {Want{VLANs: []uint16{10}, PVID: 5}, fresh, nil, "del 1, add 5 pvid untagged, add 10"},
		"none is untagged":          {Want{VLANs: []uint16{10}, PVID: 0}, fresh, nil, "del 1, add 10"},
		"VLAN 1, tagged":            {Want{VLANs: []uint16{1}, PVID: Keep}, fresh, nil, "add 1"},
		"native and tagged at once": {Want{VLANs: []uint16{5}, PVID: 5}, fresh, nil, "del 1, add 5 pvid untagged"},
		"no longer wanted": {
			Want{VLANs: []uint16{10}, PVID: Keep}, map[uint16]flags{1: {true, true}, 10: {}, 20: {}, 30: {}}, []uint16{10, 20}, "del 20",
		},
		"somebody else's stays": {Want{PVID: Keep}, map[uint16]flags{1: {true, true}, 30: {}}, nil, ""},
		"everything":            {Want{VLANs: everyVLAN(), PVID: Keep}, fresh, nil, "add 1-4094"},
	} {
		ours := make(map[uint16]bool)
		for _, v := range c.ours {
			ours[v] = true
		}
		var got []string
		for _, s := range plan(c.want, maps.Clone(c.have), ours) {
			got = append(got, strings.Replace(s.words("tap"), " dev tap vid", "", 1))
		}
		if text := strings.Join(got, ", "); text != c.do {
			t.Errorf("%s: %q, want %q", name, text, c.do)
		}
	}
}

func everyVLAN() (all []uint16) {
	for v := uint16(1); v <= 4094; v++ {
		all = append(all, v)
	}
	return all
}

// On a kernel with VLAN-aware bridges: the port has the VLANs, has them again when it was made
// anew, and loses those that are no longer wanted.
func TestPort_apply(t *testing.T) {
	testnet.Require(t)
	ns := testnet.New(t)
	if _, err := ns.Try("ip", "link", "add", "br0", "type", "bridge", "vlan_filtering", "1"); err != nil {
		t.Skip("this kernel has no VLAN-aware bridges")
	}
	ns.Run(t, "ip", "link", "add", "tap0", "type", "dummy")
	ns.Run(t, "ip", "link", "set", "tap0", "master", "br0")
	var p *Port
	var err error
	if ns.Do(func() { p, err = Open() }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	apply := func(w Want, changes int) {
		t.Helper()
		w.Device = "tap0"
		changed, err := p.Apply(w)
		if err != nil || len(changed) != changes {
			t.Errorf("%+v: %q, %v; want %d changes", w, changed, err, changes)
		}
	}
	shows := func(want string) {
		t.Helper()
		out := ns.Run(t, "bridge", "vlan", "show", "dev", "tap0")
		if got := fmt.Sprint(slices.DeleteFunc(strings.Fields(out), func(s string) bool { return s == "port" || s == "vlan-id" || s == "tap0" })); got != want {
			t.Errorf("the port has %s, want %s", got, want)
		}
	}
	trunk := Want{VLANs: []uint16{10, 20}, PVID: Keep}
	apply(trunk, 2)
	apply(trunk, 0)
	shows("[1 PVID Egress Untagged 10 20]")
	ns.Run(t, "ip", "link", "set", "tap0", "nomaster")
	apply(trunk, 0)
	ns.Run(t, "ip", "link", "set", "tap0", "master", "br0")
	ns.Run(t, "bridge", "vlan", "add", "dev", "tap0", "vid", "30")
	apply(trunk, 2)
	apply(Want{VLANs: []uint16{10}, PVID: 5}, 3)
	shows("[5 PVID Egress Untagged 10 30]")
}

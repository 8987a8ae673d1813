package daemon

import (
	"slices"
	"strings"
	"testing"

	"tund/config"
	"tund/internal/desired"
)

func TestPlan_saysWhatAStartAndAReloadChange(t *testing.T) {
	if !alone(t) {
		return
	}
	uplink(t)
	n := newInstance(t, everything)
	plan := func(text string) (changes []string) {
		t.Helper()
		n.write(text)
		before := kernelState(t)
		c, err := config.Load(n.path)
		if err != nil {
			t.Fatal(err)
		}
		if changes, _, err = desired.Plan(c); err != nil {
			t.Error(err)
		}
		if after := kernelState(t); after != before {
			t.Errorf("a plan changed the kernel's\n%sto\n%s", before, after)
		}
		return changes
	}
	whole := plan(everything)
	for _, want := range []string{
		"add device " + device() + " (TUN)", "add device " + device() + "t (TAP)", "add bridge br-n",
		"add link " + device() + " mtu 1420", "add address 10.9.0.1/24 dev " + device(), "add route 10.20.0.0/16 dev " + device(),
	} {
		if !slices.Contains(whole, want) {
			t.Errorf("a start lacks %q:\n%s", want, strings.Join(whole, "\n"))
		}
	}
	n.start()
	if changes := plan(everything); len(changes) > 0 {
		t.Errorf("unchanged, but %q", changes)
	}
	next := strings.NewReplacer("10.20.", "10.30.", "10.9.0.1/24", "10.9.0.2/24").Replace(everything)
	dev := device()
	got := plan(next)
	for _, want := range []string{
		"add address 10.9.0.2/24 dev " + dev, "add route 10.30.0.0/16 dev " + dev,
		"remove address 10.9.0.1/24 dev " + dev, "remove route 10.20.0.0/16 dev " + dev,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("a reload lacks %q:\n%s", want, strings.Join(got, "\n"))
		}
	}
	if err := n.reloads(next); err != nil {
		t.Error(err)
	}
	if changes := plan(next); len(changes) > 0 {
		t.Errorf("reloaded, but %q", changes)
	}
	n.stop()
}

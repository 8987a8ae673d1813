package view

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A host that starts without the right time, or with one that is far ahead, notes since when the
// store lacks records by that time. Neither a registry that has lost everything nor the next start
// makes it give up peers before the store has lacked them for Silence.
func TestView_absenceByAWrongClock(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 30)
	lacking := maps.Clone(n.values)
	maps.DeleteFunc(lacking, func(key string, _ []byte) bool { return strings.HasPrefix(key, "site/") })
	restarted := func(v *View) *View {
		again := New(Options{Trust: trust, Self: siteOf(0), Keepalive: 25})
		if err := again.Restore(v.Snapshot()); err != nil {
			t.Fatal(err)
		}
		return again
	}
	v := n.view(noon)
	want := v.Decide(noon)
	for _, off := range []time.Duration{-10 * 365 * 24 * time.Hour, -8 * 24 * time.Hour, 8 * 24 * time.Hour} {
		v := restarted(v)
		wrong := noon.Add(off)
		_ = v.List(lacking, wrong)
		if got := v.Decide(wrong); !reflect.DeepEqual(got.Peers, want.Peers) || got.Held != 0 {
			t.Errorf("a clock off by %v: %d peers, %d held", off, len(got.Peers), got.Held)
		}
		v = restarted(v)
		_ = v.List(lacking, noon)
		for _, after := range []time.Duration{0, time.Hour, Silence} {
			v.redo = true
			if got := v.Decide(noon.Add(after)); !reflect.DeepEqual(got.Peers, want.Peers) || got.Held != 0 {
				t.Errorf("a clock that was off by %v, %v later: %d peers, %d held", off, after, len(got.Peers), got.Held)
			}
		}
		late := noon.Add(Silence + time.Second)
		v.redo = true
		if got := v.Decide(late); len(got.Peers)+Allowance(len(want.Peers)) != len(want.Peers) {
			t.Errorf("a clock that was off by %v, after a week without records: %d peers", off, len(got.Peers))
		}
	}
}

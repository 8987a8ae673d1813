package drop

import "testing"

func TestReason_everyReasonHasItsOwnName(t *testing.T) {
	seen := map[string]Reason{}
	for r := None; r < count; r++ {
		name := r.String()
		if name == "" {
			t.Errorf("reason %d has no name", r)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("reasons %d and %d are both called %q", r, other, name)
		}
		seen[name] = r
	}
	if got := Reason(255).String(); got != "unknown" {
		t.Errorf("Reason(255) = %q", got)
	}
}

func TestCounters_snapshotHoldsOnlyWhatHappened(t *testing.T) {
	var c Counters
	c.Add(None, 3)
	c.Add(Replay, 2)
	c.Add(Replay, 1)
	got := c.Snapshot()
	if len(got) != 1 || got["replay"] != 3 || c.Get(Replay) != 3 {
		t.Errorf("snapshot = %v", got)
	}
}

// What the switch keeps back because nobody needs it is no loss.
func TestLosses_areWhatSomebodyMisses(t *testing.T) {
	t.Parallel()
	counts := map[string]uint64{BadTag.String(): 3, SuppressedARP.String(): 500, NoPeer.String(): 4, NotFlooded.String(): 60, SnoopedMulticast.String(): 7}
	if got := Losses(counts); got != 7 {
		t.Errorf("%d losses in %v", got, counts)
	}
	if Losses(nil) != 0 {
		t.Error("losses of nothing")
	}
}

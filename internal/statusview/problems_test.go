package statusview_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/statusview"
)

func TestProblems_lastUntilTheyAreSolved(t *testing.T) {
	t.Parallel()
	var p statusview.Problems
	said := func() (all []string) {
		for _, one := range p.All() {
			all = append(all, one.Kind+" "+one.Subject+": "+one.Message)
		}
		slices.Sort(all)
		return all
	}
	p.Note("network", "", "refused")
	p.Note("routing-loop", "berlin", "loop")
	p.Note("routing-loop", "paris", "loop")
	p.SolvedWhere("routing-loop", func(peer string) bool { return peer == "paris" })
	if got, want := said(), []string{"network : refused", "routing-loop berlin: loop"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !p.Has("network", "") || p.Has("network", "tun0") || p.Has("routing-loop", "paris") {
		t.Error("Has does not say what All says")
	}
	p.Solved("network", "")
	p.SolvedWhere("routing-loop", func(string) bool { return true })
	if got := said(); len(got) != 0 {
		t.Errorf("afterwards %q", got)
	}
}

func TestProblems_theSameProblemKeepsItsBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p statusview.Problems
		p.Note("network", "", "refused")
		start := time.Now()
		time.Sleep(time.Minute)
		p.Note("network", "", "refused")
		if since := p.All()[0].Since; !since.Equal(start) {
			t.Errorf("the same problem began %v after it was noted first", since.Sub(start))
		}
		p.Note("network", "", "refused otherwise")
		if since := p.All()[0].Since; !since.Equal(start.Add(time.Minute)) {
			t.Errorf("another problem began at %v, want now", since)
		}
	})
}

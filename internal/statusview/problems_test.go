package statusview_test

import (
	"slices"
	"strings"
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

func TestProblems_renewedKindsAreReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p statusview.Problems
		p.Note("network", "", "refused")
		clock := statusview.Problem{Kind: "clock", Message: "behind", Remedy: "set it"}
		p.Renew([]statusview.Problem{clock, {Kind: "forwarding", Subject: "lan", Message: "off"}}, "clock", "forwarding")
		start := time.Now()
		time.Sleep(time.Minute)
		p.Renew([]statusview.Problem{clock}, "clock", "forwarding")
		all := p.All()
		slices.SortFunc(all, func(a, b statusview.Problem) int { return strings.Compare(a.Kind, b.Kind) })
		if len(all) != 2 || all[0].Remedy != "set it" || !all[0].Since.Equal(start) || all[1].Kind != "network" {
			t.Errorf("after one was solved: %+v", all)
		}
		p.Renew(nil, "clock", "forwarding")
		if all := p.All(); len(all) != 1 || all[0].Kind != "network" {
			t.Errorf("after all were solved: %+v", all)
		}
	})
}

package failover

import (
	"testing"
	"time"

	"tund/internal/boottime"
)

// step is what two members do at one moment, and which of them is to carry then.
type step struct {
	at            time.Duration
	main, standby Condition
	want          string
}

// TestBest plays one minute in the life of two gateways, of which the first is preferred.
func TestBest(t *testing.T) {
	t.Parallel()
	const main, standby = "main", "standby"
	priority := func(v string) int {
		if v == main {
			return 10
		}
		return 0
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"both come up", []step{
			{0, Unknown, Unknown, main},
			{time.Second, Unknown, Up, standby},
			{2 * time.Second, Up, Up, main}, // it has not failed: there is nothing to wait for
		}},
		{"the preferred one fails and returns", []step{
			{0, Up, Up, main},
			{time.Second, Down, Up, standby},
			{2 * time.Second, Unknown, Up, standby},
			{5 * time.Second, Up, Up, standby},
			{14 * time.Second, Up, Up, standby},
			{15 * time.Second, Up, Up, main},
		}},
		{"it comes and goes", []step{
			{0, Down, Up, standby},
			{time.Second, Up, Up, standby},
			{9 * time.Second, Down, Up, standby},
			{10 * time.Second, Up, Up, standby},
			{19 * time.Second, Up, Up, standby},
			{20 * time.Second, Up, Up, main},
		}},
		{"the standby fails too, and the preferred one returns first", []step{
			{0, Down, Up, standby},
			{time.Second, Down, Down, main},
			{2 * time.Second, Down, Up, standby},
			{3 * time.Second, Up, Down, main},
		}},
		{"a session ends for want of traffic", []step{
			{0, Up, Up, main},
			{time.Second, Unknown, Up, main},
			{4 * time.Second, Unknown, Up, main},
			{6 * time.Second, Unknown, Up, standby},
			{7 * time.Second, Up, Up, main},
		}},
		{"nobody answers", []step{
			{0, Down, Down, main},
		}},
	} {
		var j Judge[string]
		if got := j.Best([]string{standby, main}, priority); got != main {
			t.Errorf("%s: before anything is known: %s", c.name, got)
		}
		for _, s := range c.steps {
			j.Observe(map[string]Condition{main: s.main, standby: s.standby}, boottime.Time(time.Hour+s.at))
			if got := j.Best([]string{standby, main}, priority); got != s.want {
				t.Errorf("%s: at %v: %s, want %s", c.name, s.at, got, s.want)
			}
		}
	}
}

// A member that left the group and comes back begins without a history.
func TestObserve_forgets(t *testing.T) {
	t.Parallel()
	var j Judge[int]
	j.Observe(map[int]Condition{1: Down, 2: Up}, 1)
	j.Observe(map[int]Condition{2: Up}, 2)
	j.Observe(map[int]Condition{1: Up, 2: Up}, 3)
	if got := j.Best([]int{1, 2}, func(v int) int { return -v }); got != 1 {
		t.Errorf("best is %d: the failure before is still remembered", got)
	}
}

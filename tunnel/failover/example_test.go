package failover_test

import (
	"fmt"
	"time"

	"tund/internal/boottime"
	"tund/tunnel/failover"
)

// Traffic leaves a gateway that fails at once, and returns when it has been reachable for ten
// seconds.
func ExampleJudge() {
	var j failover.Judge[string]
	priority := map[string]int{"first": 2, "second": 1}
	start := boottime.Time(time.Hour)
	for _, step := range []struct {
		after time.Duration
		first failover.Condition
	}{{0, failover.Up}, {time.Second, failover.Down}, {2 * time.Second, failover.Up}, {12 * time.Second, failover.Up}} {
		j.Observe(map[string]failover.Condition{"first": step.first, "second": failover.Up}, start.Add(step.after))
		fmt.Println(step.after, j.Best([]string{"first", "second"}, func(name string) int { return priority[name] }))
	}
	// Output:
	// 0s first
	// 1s second
	// 2s second
	// 12s first
}

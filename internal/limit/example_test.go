package limit_test

import (
	"fmt"
	"time"

	"tund/internal/boottime"
	"tund/internal/limit"
)

// A bucket lets a burst through, and then as much as its rate allows.
func ExampleBucket() {
	var b limit.Bucket
	rate := limit.PerSecond(10, 3)
	now := boottime.Time(time.Hour)
	for range 4 {
		fmt.Println(b.Take(now, 1, rate))
	}
	fmt.Println(b.Take(now.Add(100*time.Millisecond), 1, rate))
	// Output:
	// true
	// true
	// true
	// false
	// true
}

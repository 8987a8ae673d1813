package replay_test

import (
	"fmt"

	"tund/crypto/replay"
)

// Counters may arrive out of order, and none is accepted twice.
func ExampleWindow_Accept() {
	var w replay.Window
	for _, counter := range []uint64{0, 2, 1, 2, 10_000, 1_000} {
		fmt.Println(counter, w.Accept(counter))
	}
	// Output:
	// 0 true
	// 2 true
	// 1 true
	// 2 false
	// 10000 true
	// 1000 false
}

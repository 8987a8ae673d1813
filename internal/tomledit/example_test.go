package tomledit_test

import (
	"fmt"

	"tund/internal/tomledit"
)

// A change leaves everything else as it was, comments and alignment included.
func ExampleSet() {
	text, err := tomledit.Set([]byte(`# The office.
[[peer]]
name      = "paris" # behind NAT
keepalive = 5
`), "peer", 0, "keepalive", "25")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(text))
	// Output:
	// # The office.
	// [[peer]]
	// name      = "paris" # behind NAT
	// keepalive = 25
}

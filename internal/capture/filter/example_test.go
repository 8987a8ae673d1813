package filter_test

import (
	"fmt"

	"tund/internal/capture/filter"
)

// An expression that is wrong is refused with the place and the cause.
func ExampleParse() {
	peer := func(name string) (filter.Key, bool) { return filter.Key{}, name == "paris" }
	for _, text := range []string{"peer paris and not port 22", "peer rome", "host 10.9.0.300"} {
		_, err := filter.Parse(text, peer)
		fmt.Println(text, "→", err)
	}
	// Output:
	// peer paris and not port 22 → <nil>
	// peer rome → filter, at "rome" (character 6): no peer has this name or public key
	// host 10.9.0.300 → filter, at "10.9.0.300" (character 6): want an IP address
}

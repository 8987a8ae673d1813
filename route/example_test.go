package route_test

import (
	"fmt"
	"net/netip"

	"tund/route"
	"tund/route/mark"
)

// The routes of a tunnel follow from what its peers are allowed to use.
func ExampleRoutesFor() {
	allowed := []netip.Prefix{netip.MustParsePrefix("10.30.0.0/16"), netip.MustParsePrefix("fd30::/64")}
	for _, r := range route.RoutesFor(allowed, mark.Table("office"), 100) {
		fmt.Println(r.Dst, r.Metric)
	}
	// Output:
	// 10.30.0.0/16 100
	// fd30::/64 100
}

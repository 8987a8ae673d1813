package l3_test

import (
	"fmt"
	"net/netip"

	"tund/tunnel/l3"
)

// The most specific prefix owns an address, for packets in both directions.
func ExampleTable() {
	var table l3.Table[string]
	table.Update(func(tx *l3.Tx[string]) {
		tx.Insert(netip.MustParsePrefix("10.0.0.0/8"), "berlin")
		tx.Insert(netip.MustParsePrefix("10.30.0.0/16"), "paris")
	})
	for _, address := range []string{"10.1.2.3", "10.30.0.7", "192.0.2.1"} {
		owner, found := table.Lookup(netip.MustParseAddr(address))
		fmt.Printf("%s: %q %t\n", address, owner, found)
	}
	// Output:
	// 10.1.2.3: "berlin" true
	// 10.30.0.7: "paris" true
	// 192.0.2.1: "" false
}

package wgquick_test

import (
	"fmt"

	"tund/internal/wgquick"
)

// A file of wg-quick becomes a configuration; what has no counterpart is reported with its line.
func ExampleParse() {
	file, notes, faults := wgquick.Parse(`[Interface]
PrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=
Address = 10.9.0.1/24
SaveConfig = true

[Peer]
PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
AllowedIPs = 10.9.0.2/32
PersistentKeepalive = 25
`, "wg0")
	if len(faults) > 0 {
		fmt.Println(faults)
		return
	}
	for _, n := range notes {
		fmt.Println(n.Line, n.Key)
	}
	fmt.Print(file.Peers[0].TOML(""))
	// Output:
	// 4 SaveConfig
	// [[peer]]
	// public_key  = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	// allowed_ips = ["10.9.0.2/32"]
	// keepalive   = 25
}

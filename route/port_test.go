package route

import (
	"strings"
	"testing"
)

// A TAP that is a port has no link-local address: tund would send what the host says of it to all
// sites, and a host that forwards would answer questions for it with redirects.
func TestManager_portOfABridgeMakesNoAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	ns := newHost(t)
	m := newInside(t, ns, "office")
	tap := Device{Name: "office-tap", Up: true, Bridge: "br0"}
	for bridge, mode := range map[string]string{"br0": "none", "": "eui64"} {
		apply(t, m, State{Devices: []Device{{Name: "office-tap", Up: true, Bridge: "br0"}}})
		tap.Bridge = bridge
		apply(t, m, State{Devices: []Device{tap}})
		if out := ns.Run(t, "ip", "-d", "link", "show", "office-tap"); !strings.Contains(out, "addrgenmode "+mode) {
			t.Errorf("with bridge %q: %s\nlacks %q", bridge, out, "addrgenmode "+mode)
		}
	}
}

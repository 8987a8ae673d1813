package route

import (
	"fmt"
	"strings"
)

// String returns the state as text, one object a line, in the order of the State.
func (a Applied) String() string {
	var b strings.Builder
	for _, d := range a.Devices {
		fmt.Fprintf(&b, "%s mtu %d", d.Name, d.MTU)
		if d.Up {
			b.WriteString(" up")
		}
		if d.Bridge != "" {
			b.WriteString(" master " + d.Bridge)
		}
		b.WriteByte('\n')
		for _, addr := range d.Addrs {
			fmt.Fprintf(&b, "  address %v\n", addr)
		}
		for _, r := range d.Routes {
			fmt.Fprintf(&b, "  route %v", r.Dst)
			if r.Table != 0 {
				fmt.Fprintf(&b, " table %d", r.Table)
			}
			if r.Metric != 0 {
				fmt.Fprintf(&b, " metric %d", r.Metric)
			}
			b.WriteByte('\n')
		}
	}
	if a.FwMark != 0 {
		fmt.Fprintf(&b, "mark %#x\n", a.FwMark)
	}
	if a.FullTunnel4 {
		b.WriteString("full tunnel IPv4\n")
	}
	if a.FullTunnel6 {
		b.WriteString("full tunnel IPv6\n")
	}
	if a.Forward {
		b.WriteString("forwarding\n")
	}
	if a.Masquerade != "" {
		b.WriteString("masquerade " + a.Masquerade + "\n")
	}
	for _, name := range a.BridgesMade {
		b.WriteString("bridge " + name + " made\n")
	}
	for _, w := range a.Warnings {
		b.WriteString("warning: " + w + "\n")
	}
	return b.String()
}

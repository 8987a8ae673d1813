package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// namedState is one entry of the table that the fake and the real kernel are both tested with.
type namedState struct {
	name  string
	state State
}

// testStates are desired states on the devices "office" (TUN) and "office-tap" (TAP) of the
// instance "office". Addresses are chosen so that every pair of states has something to change.
func testStates() []namedState {
	tun := Device{
		Name: "office", Addrs: prefixes("10.9.0.1/24", "fd09::1/64"), MTU: 1420, Up: true,
		Routes: RoutesFor(prefixes("10.9.0.0/24", "10.20.0.0/16", "fd20::/48", "10.20.0.0/16"), 0, 0),
	}
	tap := Device{Name: "office-tap", Up: true, Bridge: "br0"}
	full := tun
	full.Routes = RoutesFor(prefixes("0.0.0.0/0", "::/0", "10.20.0.0/16"), 0, 0)
	full4 := tun
	full4.Addrs, full4.MTU = prefixes("10.9.0.1/32"), 1400
	full4.Routes = RoutesFor(prefixes("0.0.0.0/0"), 0, 0)
	tabled := tun
	tabled.Routes = RoutesFor(prefixes("0.0.0.0/0", "10.20.0.0/16"), 1234, 0)
	metric := tun
	metric.Routes = RoutesFor(prefixes("10.20.0.0/16", "fd20::/48"), 0, 77)
	renumbered := tun
	renumbered.Addrs = prefixes("10.9.0.2/24", "10.9.0.3/24", "10.9.0.1/16", "fd09::1/56")
	small := tun
	small.MTU, small.Addrs, small.Routes = 576, prefixes("10.9.0.3/24"), RoutesFor(prefixes("10.20.0.0/16"), 0, 0)
	addressed := tap
	addressed.Bridge, addressed.Addrs = "", prefixes("198.51.100.1/24", "10.9.9.1/24")
	addressed.Routes = RoutesFor(prefixes("10.20.0.0/16"), 0, 0)
	other := tap
	other.Bridge = "br-other"
	return []namedState{
		{"nothing", State{}},
		{"tun", State{Devices: []Device{tun}}},
		{"tun and tap", State{Devices: []Device{tun, tap}}},
		{"tap in another bridge", State{Devices: []Device{other}}},
		{"tap with addresses takes over a route", State{Devices: []Device{addressed}}},
		{"full tunnel", State{Devices: []Device{full, tap}}},
		{"full tunnel with a mark and all of main", State{Devices: []Device{full}, FwMark: 51820, LocalNetworks: LocalAll}},
		{"full tunnel for IPv4, nothing local, beside a tap", State{Devices: []Device{full4, addressed}, LocalNetworks: LocalNone}},
		{"own table", State{Devices: []Device{tabled}}},
		{"exit", State{Devices: []Device{tun}, Forward: true, Masquerade: "office"}},
		{"forwards", State{Devices: []Device{tun, tap}, Forward: true}},
		{"full tunnel that forwards", State{Devices: []Device{full4}, Forward: true}},
		{"metric", State{Devices: []Device{metric}, FwMark: 7}},
		{"renumbered", State{Devices: []Device{renumbered}}},
		{"too small for IPv6", State{Devices: []Device{small, tap}}},
	}
}

func prefixes(text ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range text {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// factsText renders everything but link indices, sorted.
func factsText(f facts) string {
	var lines []string
	for name, l := range f.links {
		lines = append(lines, fmt.Sprintf("link %s mtu %d up %t master %q group %d", name, l.mtu, l.up, l.master, l.group))
	}
	for o := range f.addrs {
		lines = append(lines, o.String())
	}
	for o := range f.routes {
		lines = append(lines, o.String())
	}
	for o := range f.rules {
		lines = append(lines, o.String())
	}
	for name, g := range f.guards {
		lines = append(lines, fmt.Sprintf("guard %s %+v", name, g))
	}
	for s, on := range f.sysctls {
		lines = append(lines, fmt.Sprintf("%s %t", s, on))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func hex(mark uint32) string { return fmt.Sprintf("%#x", mark) }

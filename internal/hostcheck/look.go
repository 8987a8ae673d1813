package hostcheck

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ClockUnsynced reports whether the kernel says that no program keeps its clock right
// (adjtimex(2)).
func ClockUnsynced() bool {
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	return err == nil && t.Status&unix.STA_UNSYNC != 0
}

// Overlaps returns those of the prefixes that the main routing table also has a route for by
// another link than the given one.
func Overlaps(prefixes []netip.Prefix, device string) ([]Astray, error) {
	wanted := make(map[netip.Prefix]bool, len(prefixes))
	for _, p := range prefixes {
		if p.Bits() > 0 { // a full tunnel lies beside the default route of the host
			wanted[p.Masked()] = true
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var list []Astray
	for _, r := range routes {
		if r.Dst == nil || r.Type != unix.RTN_UNICAST {
			continue
		}
		prefix, err := netip.ParsePrefix(r.Dst.String())
		if err != nil || !wanted[prefix] {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err == nil && link.Attrs().Name != device {
			list = append(list, Astray{Prefix: prefix, Link: link.Attrs().Name})
		}
	}
	return list, nil
}

// Port is a device as a port of a Linux bridge.
type Port struct {
	Bridge        string
	VLANFiltering bool
}

// BridgePort describes the port of a bridge that a device is; ok is false if it is none.
func BridgePort(device string) (p Port, ok bool) {
	if device == "" || strings.ContainsRune(device, '/') {
		return Port{}, false
	}
	dir := filepath.Join("/sys/class/net", device)
	bridge, err := os.Readlink(filepath.Join(dir, "brport", "bridge"))
	if err != nil {
		return Port{}, false
	}
	p.Bridge = filepath.Base(bridge)
	p.VLANFiltering = line(filepath.Join("/sys/class/net", p.Bridge, "bridge", "vlan_filtering")) == "1"
	return p, true
}

// FiltersBridged reports whether rules for routed packets are applied to bridged ones too
// (br_netfilter).
func FiltersBridged() bool { return line("/proc/sys/net/bridge/bridge-nf-call-iptables") == "1" }

// line reads a file of one line, or returns "".
func line(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

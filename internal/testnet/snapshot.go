package testnet

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Veth joins a and b by a pair of virtual Ethernet devices, brings both ends up with the given
// addresses ("10.0.0.1/24", "fd00::1/64"), and returns their names: eth0, eth1, … in each namespace
// in order of making. a and b must differ. The kernel's own work on the new links (IPv6 link-local
// addresses and their routes) is done when Veth returns, so a Snapshot is stable.
func Veth(t testing.TB, a, b *NS, addrsA, addrsB []string) (nameA, nameB string) {
	t.Helper()
	nameA, nameB = fmt.Sprintf("eth%d", a.veth), fmt.Sprintf("eth%d", b.veth)
	a.veth++
	b.veth++
	a.Run(t, "ip", "link", "add", nameA, "type", "veth", "peer", "name", nameB, "netns", b.name)
	for _, end := range []struct {
		ns    *NS
		name  string
		addrs []string
	}{{a, nameA, addrsA}, {b, nameB, addrsB}} {
		end.ns.Run(t, "ip", "link", "set", end.name, "up")
		for _, addr := range end.addrs {
			command := []string{"ip", "address", "add", addr, "dev", end.name}
			if strings.Contains(addr, ":") {
				command = append(command, "nodad")
			}
			end.ns.Run(t, command...)
		}
	}
	a.awaitLinkLocal(t, nameA)
	b.awaitLinkLocal(t, nameB)
	return nameA, nameB
}

// awaitLinkLocal waits for the kernel to have given a link that is up its IPv6 link-local address
// and the route to it, which it does in the background. A host without IPv6 has nothing to wait
// for.
func (ns *NS) awaitLinkLocal(t testing.TB, link string) {
	t.Helper()
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return
	}
	Await(t, "link-local address of "+link+" in "+ns.name, 10*time.Second, func() bool {
		out, err := ns.Try("ip", "-6", "route", "show", "table", "local", "dev", link)
		return err != nil || strings.Contains(out, "fe80")
	})
}

// Snapshot returns the state that a network daemon can change, as sorted text, one object a line:
// links (kind, MTU, up, master, alias), addresses, routes of all tables, rules, nft tables and the
// sysctls that an instance may set. Interface indices, counters and carrier are left out, so two
// snapshots differ only where something was left or lost. nft(8) missing leaves that part out.
func (ns *NS) Snapshot() string {
	ns.t.Helper()
	// One shell for everything: a test takes dozens of snapshots, and entering a namespace costs
	// more than listing a table. A family that the kernel lacks prints nothing.
	parts := strings.Split(ns.Run(ns.t, "sh", "-c", `
list=interrupted # as ip says of a list that changed while it was read
until case $list in *interrupted*) false;; esac; do list=$(ip -d -j address show 2>&1); done
echo "$list"; echo ----
for family in -4 -6; do
	ip $family -N route show table all 2>/dev/null | sed "s/^/route$family /"
	ip $family -N rule show 2>/dev/null | sed "s/^/rule$family /"
done; echo ----
echo src_valid_mark $(cat /proc/sys/net/ipv4/conf/all/src_valid_mark)
echo forwarding $(cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding)
if command -v nft >/dev/null; then nft -s list ruleset | sed "s/^/nft /"; fi`), "----\n")
	lines := append(ns.links(parts[0]), cleaned(parts[1])...)
	slices.Sort(lines)
	// The rest is not sorted: inside an nftables chain the order is the meaning.
	return strings.Join(append(lines, cleaned(parts[2])...), "\n") + "\n"
}

// cleaned splits text into lines without trailing blanks and carrier state.
func cleaned(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.ReplaceAll(line, " linkdown", ""), " \n")
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// links returns a line per link and per address of what ip(8) lists as JSON.
func (ns *NS) links(list string) []string {
	ns.t.Helper()
	var links []struct {
		Ifname   string   `json:"ifname"`
		Flags    []string `json:"flags"`
		MTU      int      `json:"mtu"`
		Master   string   `json:"master"`
		Alias    string   `json:"ifalias"`
		Linkinfo struct {
			Kind string `json:"info_kind"`
		} `json:"linkinfo"`
		Addrs []struct {
			Local string `json:"local"`
			Len   int    `json:"prefixlen"`
			Peer  string `json:"address"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(list), &links); err != nil {
		ns.t.Fatalf("ip -j address: %v: %s", err, list)
	}
	var lines []string
	for _, l := range links {
		lines = append(lines, fmt.Sprintf("link %s kind=%s mtu=%d up=%t master=%s alias=%s",
			l.Ifname, l.Linkinfo.Kind, l.MTU, slices.Contains(l.Flags, "UP"), l.Master, l.Alias))
		for _, a := range l.Addrs {
			line := fmt.Sprintf("addr %s %s/%d", l.Ifname, a.Local, a.Len)
			if a.Peer != "" {
				line += " peer " + a.Peer
			}
			lines = append(lines, line)
		}
	}
	return lines
}

package testnet

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Veth joins a and b by a pair of virtual Ethernet devices, brings both ends up with the given addresses
// ("10.0.0.1/24", "fd00::1/64"), and returns their names: eth0, eth1, … in each namespace in order of
// making. a and b must differ.
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
	return nameA, nameB
}

// Snapshot returns the state that a network daemon can change, as sorted text, one object a line: links
// (kind, MTU, up, master, alias), addresses, routes of all tables, rules, nft tables and the sysctl
// src_valid_mark. Interface indices, counters and carrier are left out, so two snapshots differ only where
// something was left or lost. nft(8) missing leaves that part out.
func (ns *NS) Snapshot() string {
	ns.t.Helper()
	lines := ns.links()
	for _, family := range []string{"-4", "-6"} {
		lines = append(lines, ns.list("route"+family, "ip", family, "-N", "route", "show", "table", "all")...)
		lines = append(lines, ns.list("rule"+family, "ip", family, "-N", "rule", "show")...)
	}
	slices.Sort(lines)
	if out, err := ns.Try("sysctl", "-n", "net.ipv4.conf.all.src_valid_mark"); err == nil {
		lines = append(lines, "src_valid_mark "+strings.TrimSpace(out))
	}
	if _, err := exec.LookPath("nft"); err == nil {
		// Not sorted: inside a chain the order is the meaning.
		lines = append(lines, ns.list("nft", "nft", "-s", "list", "ruleset")...)
	}
	return strings.Join(lines, "\n") + "\n"
}

// list returns the lines a command prints, each behind a label. A family that the kernel lacks prints none.
func (ns *NS) list(label string, command ...string) []string {
	out, err := ns.Try(command...)
	if err != nil {
		return nil
	}
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(strings.ReplaceAll(line, " linkdown", ""), " \n")
		if line != "" {
			lines = append(lines, label+" "+line)
		}
	}
	return lines
}

// links returns a line per link and per address.
func (ns *NS) links() []string {
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
	out := ns.Run(ns.t, "ip", "-d", "-j", "address", "show")
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		ns.t.Fatalf("ip -j address: %v: %s", err, out)
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

package hostcheck

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// confPath is where the kernel has the settings of each link, for the network namespace of the
// reader (Documentation/networking/ip-sysctl.rst).
const confPath = "/proc/sys/net/ipv%d/conf/%s/%s"

// Read examines the host: its links, and what the kernel does with their packets.
func Read() (Host, error) {
	links, err := net.Interfaces()
	if err != nil {
		return Host{}, fmt.Errorf("list network interfaces: %w", err)
	}
	h := Host{
		Now: time.Now(), Forward4: setting(4, "all", "forwarding") == "1", Forward6: setting(6, "all", "forwarding") == "1",
		ValidMark: setting(4, "all", "src_valid_mark") == "1",
	}
	h.ReversePathDrops, h.Tracking = reversePathDrops(), readTracking()
	text, _ := os.ReadFile(devPath) // without it there are no counts to compare
	counts := parseDev(string(text))
	strict := max(setting(4, "all", "rp_filter"), "0")
	ports := listPorts()
	for i := range links {
		l := Link{
			Queue: counts[links[i].Name],
			Name:  links[i].Name, Index: links[i].Index, Up: links[i].Flags&net.FlagUp != 0, Loopback: links[i].Flags&net.FlagLoopback != 0,
			Forward4: setting(4, links[i].Name, "forwarding") == "1",
			Bridge:   ports[links[i].Index].bridge,
			Master:   ports[links[i].Index].master,
			State:    ports[links[i].Index].state,
			Flags:    ports[links[i].Index].flags,
			Strict:   max(strict, setting(4, links[i].Name, "rp_filter")) == "1",
		}
		addrs, err := links[i].Addrs()
		if err != nil {
			continue // it has just been removed
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				l.Addrs = append(l.Addrs, p)
			}
		}
		h.Links = append(h.Links, l)
	}
	return h, nil
}

// setting reads one setting of a link, or returns "" if there is none. Settings are single digits.
func setting(family int, link, name string) string {
	data, err := os.ReadFile(fmt.Sprintf(confPath, family, link, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

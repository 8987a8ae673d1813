package hostcheck

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Tracking is how full the connection tracking of the kernel is, in the network namespace of the
// reader. The zero value: it tracks nothing, or that is not known.
type Tracking struct {
	Count uint64 // connections that it knows
	Max   uint64 // how many it may know
}

// The numbers of connection tracking (Documentation/networking/nf_conntrack-sysctl.rst).
const (
	trackedPath    = "/proc/sys/net/netfilter/nf_conntrack_count"
	maxTrackedPath = "/proc/sys/net/netfilter/nf_conntrack_max"
)

func readTracking() Tracking { return Tracking{number(trackedPath), number(maxTrackedPath)} }

// number reads a file that holds one number; 0 when there is none.
func number(path string) uint64 {
	data, _ := os.ReadFile(path) // absent without the module
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}

// fullShare is the part of the table, one in this number, that may be left when it counts as full:
// the number swings while old entries make room for new ones.
const fullShare = 50

// conntrack finds a table of connections that has no room: the kernel then drops what would begin a
// new one, a handshake with a peer or a connection through the tunnel, and lets the others pass.
func (t *Tunnel) conntrack(h Host) []Finding {
	c := h.Tracking
	if c.Max == 0 || c.Count < c.Max-c.Max/fullShare {
		return nil
	}
	return []Finding{{
		Kind: Conntrack,
		Message: fmt.Sprintf("the connection tracking of this host is full (%d of %d): the kernel drops whatever begins a new connection, "+
			"through the tunnel or with a peer", c.Count, c.Max),
		Remedy: fmt.Sprintf("see what fills it (conntrack -L), or raise the limit: sysctl -w net.netfilter.nf_conntrack_max=%d, "+
			"and the same in a file below /etc/sysctl.d", 2*c.Max),
	}}
}

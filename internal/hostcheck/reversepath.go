package hostcheck

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// netstatPath has the counters of the reader's network namespace.
const netstatPath = "/proc/net/netstat"

// parseReversePath returns how many packets the kernel dropped for their reverse path, from the
// text of netstatPath: lines of names and of values take turns.
func parseReversePath(text string) uint64 {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if i := slices.Index(names, "IPReversePathFilter"); i >= 0 && i < len(fields) {
			n, _ := strconv.ParseUint(fields[i], 10, 64) // 0 when it is no number
			return n
		}
	}
	return 0
}

func reversePathDrops() uint64 {
	text, _ := os.ReadFile(netstatPath) // without it nothing is found
	return parseReversePath(string(text))
}

// secondUplink finds strict filtering on a link by which datagrams of peers come in, while our way
// to those peers leaves by another link. The kernel drops them before we see them, so what is found
// is that it has dropped something since the last examination, and which link can be to blame.
func (t *Tunnel) secondUplink(h Host) []Finding {
	if !t.Waiting || h.ReversePathDrops <= t.EarlierDrops {
		return nil
	}
	dropped := h.ReversePathDrops - t.EarlierDrops
	var list []Finding
	for i := range h.Links {
		l := &h.Links[i]
		if !l.Strict || !l.Up || l.Loopback || l.Name == t.Device || slices.Contains(t.Own, l.Name) || slices.Contains(t.Uplinks, l.Name) {
			continue
		}
		if !slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool { return a.Addr().Is4() }) {
			continue
		}
		list = append(list, Finding{
			Kind: ReversePath, Subject: l.Name,
			Message: fmt.Sprintf("the kernel dropped %d packets in the last seconds because of their reverse path: rp_filter is strict on %s, and the way to peers leaves by another link, so datagrams that they send to the address of %s never reach tund",
				dropped, l.Name, l.Name),
			Remedy: "make the filter loose: sysctl -w net.ipv4.conf." + l.Name + ".rp_filter=2, and the same in a file below /etc/sysctl.d; or add a rule that answers by the link on which it was asked",
		})
	}
	return list
}
